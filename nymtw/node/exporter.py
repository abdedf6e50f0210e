"""Serves a node's figures to Prometheus, on this machine alone: GET /metrics."""

from typing import Any, Final

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from nymtw.node.figures import Figures
from nymtw.node.service import Listener

HOST: Final = "127.0.0.1"
_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_IDLE: Final = 30  # seconds


class _FiguresResource(Resource):
    isLeaf = True

    def __init__(self, figures: Figures) -> None:
        super().__init__()
        self._figures = figures

    def render_GET(self, request: Request) -> bytes:
        if request.path != b"/metrics":
            request.setResponseCode(404)
            return b""
        request.setHeader(b"content-type", _CONTENT_TYPE)
        return self._figures.text()


class _QuietSite(Site):
    """Who asks, and when, is not logged."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Say nothing."""


class Exporter(Listener):
    """Listens at `http://127.0.0.1:PORT/metrics` while it runs. Any other path is not there."""

    def __init__(self, reactor: Any, port: int, figures: Figures) -> None:
        super().__init__(reactor, HOST, port, _QuietSite(_FiguresResource(figures), timeout=_IDLE, reactor=reactor))
