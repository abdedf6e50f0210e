"""Serves a node's figures to Prometheus, on this machine alone: GET /metrics."""

from typing import Any, Final

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from nymtw.node.metrics import Metrics
from nymtw.node.service import Listener

HOST: Final = "127.0.0.1"
_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_IDLE: Final = 30  # seconds


class _MetricsResource(Resource):
    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        if request.path != b"/metrics":
            request.setResponseCode(404)
            return b""
        request.setHeader(b"content-type", _CONTENT_TYPE)
        return self._metrics.text()


class _QuietSite(Site):
    """Does not log requests."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Say nothing."""


class MetricsServer(Listener):
    """Listens at `http://127.0.0.1:PORT/metrics` while it runs. Any other path is not there."""

    def __init__(self, reactor: Any, port: int, metrics: Metrics) -> None:
        super().__init__(reactor, HOST, port, _QuietSite(_MetricsResource(metrics), timeout=_IDLE, reactor=reactor))
