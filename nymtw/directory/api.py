"""The directory's REST API: one table of routes."""

from collections.abc import Callable

import msgspec

from nymtw.directory.core import LIST_NAMES, PATHS, VALIDATORS, Directory, lower_first
from nymtw.directory.figures import CONTENT_TYPE, Figures
from nymtw.directory.http import Answer, Call, Route, as_json
from nymtw.directory.openapi import lists, many, parameter, posting, reading
from nymtw.errors import EncodingError

CBOR = "application/cbor"
BYTES = {"type": "string", "format": "binary"}
METRIC_SEEN = "#/components/schemas/MetricSeen"


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
        directory.report(read_json(call.body), call.source)
        return as_json({"ok": True}, 201)

    def metrics(call: Call) -> Answer:
        return as_json(directory.metrics())

    def topology(call: Call) -> Answer:
        return Answer(directory.publisher.document(), content_type=CBOR)

    def prometheus(call: Call) -> Answer:
        return Answer(figures.text(), content_type=CONTENT_TYPE)

    return [
        Route("GET", "/api/healthcheck", healthcheck, reading("Whether the directory is there", "Ok")),
        *(
            Route("POST", f"/api/presence/{path}", announce(path), posting(f"A {role} is there", "HeartbeatPost"))
            for path, role in PATHS.items()
        ),
        Route(
            "POST",
            f"/api/presence/{VALIDATORS}",
            announce(VALIDATORS),
            posting("A validator is there, which has no part in the mixnet", "ValidatorPost"),
        ),
        Route(
            "GET",
            "/api/presence/topology",
            presence,
            reading(
                "Who is there: what each has posted, and when it was seen last. Not signed.",
                {"oneOf": [lists(*LIST_NAMES), lists(*map(lower_first, LIST_NAMES))]},
                query=[parameter("case", {"enum": ["upper", "lower"]}, "How the names of the lists begin")],
                _400="case is something else",
            ),
        ),
        Route("POST", "/api/metrics/mixes", report, posting("What a mixnode has carried", "MetricPost")),
        Route(
            "GET",
            "/api/metrics/mixes",
            metrics,
            reading("What the mixnodes carried in the last complete second", many({"$ref": METRIC_SEEN})),
        ),
        Route("GET", "/api/v1/topology", topology, reading("The signed topology", BYTES, kind=CBOR)),
        Route("GET", "/metrics", prometheus, reading("Prometheus text", {"type": "string"}, kind="text/plain")),
    ]


def read_json(body: bytes) -> object:
    """The value in `body`. Raises `EncodingError`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not JSON: {error}") from None
