"""The directory's REST API: one table of routes."""

from collections.abc import Callable

import msgspec

from nymtw.directory.core import PATHS, Directory
from nymtw.directory.figures import CONTENT_TYPE, Figures
from nymtw.directory.http import Answer, Call, Route, as_json
from nymtw.errors import EncodingError

CBOR = "application/cbor"


def routes(directory: Directory, figures: Figures) -> list[Route]:
    """Presence, topology and metrics."""

    def healthcheck(call: Call) -> Answer:
        return as_json({"ok": True})

    def announce(path: str) -> Callable[[Call], Answer]:
        def post(call: Call) -> Answer:
            directory.announce(path, read_json(call.body), call.source)
            return as_json({"ok": True}, 201)

        return post

    def presence(call: Call) -> Answer:
        case = call.query.get("case", "upper")
        if case not in ("upper", "lower"):
            raise EncodingError("case is upper or lower")
        return as_json(directory.presence(lower=case == "lower"))

    def report(call: Call) -> Answer:
        directory.report(read_json(call.body))
        return as_json({"ok": True}, 201)

    def metrics(call: Call) -> Answer:
        return as_json(directory.metrics())

    def topology(call: Call) -> Answer:
        return Answer(directory.publisher.document(), content_type=CBOR)

    def prometheus(call: Call) -> Answer:
        return Answer(figures.text(), content_type=CONTENT_TYPE)

    return [
        Route("GET", "/api/healthcheck", healthcheck),
        *(Route("POST", f"/api/presence/{path}", announce(path)) for path in PATHS),
        Route("GET", "/api/presence/topology", presence),
        Route("POST", "/api/metrics/mixes", report),
        Route("GET", "/api/metrics/mixes", metrics),
        Route("GET", "/api/v1/topology", topology),
        Route("GET", "/metrics", prometheus),
    ]


def read_json(body: bytes) -> object:
    """The value in `body`. Raises `EncodingError`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not JSON: {error}") from None
