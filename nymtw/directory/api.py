"""The directory's REST API: one table of routes."""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from nymtw.directory.core import LIST_NAMES, PATHS, VALIDATORS, Directory, lower_first
from nymtw.directory.metrics import CONTENT_TYPE, DirectoryMetrics
from nymtw.directory.openapi import lists, posting
from nymtw.encoding import KEY_LENGTH, from_cbor, key_text
from nymtw.errors import EncodingError, TopologyError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology, Topology
from nymtw.web.http import Answer, Call, Route, Unavailable, as_json
from nymtw.web.openapi import many, parameter, reading

CBOR = "application/cbor"
DELTA = "application/vnd.nymtw.topology-delta+cbor"
BYTES = {"type": "string", "format": "binary"}
METRIC_SEEN = "#/components/schemas/MetricSeen"


def routes(directory: Directory, metrics_text: DirectoryMetrics) -> list[Route]:
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
        publisher = directory.publisher
        try:
            document, newest = publisher.document(), publisher.topology()
        except TopologyError as error:  # several directories have not agreed on one yet
            raise Unavailable(str(error)) from None
        form, since = call.query.get("format", "cbor"), call.query.get("since", "0")
        if form not in ("cbor", "json"):
            raise EncodingError("format is cbor or json")
        if not re.fullmatch("[0-9]{1,19}", since):
            raise EncodingError("since is a serial")
        if form == "json":
            return Answer(topology_json(document, newest), tag=f"{newest.serial}-json")
        delta = publisher.delta(int(since)) if int(since) else None
        # A delta that is longer than the whole is none.
        if delta is not None and len(delta) < len(document):
            return Answer(delta, content_type=DELTA, tag=f"{newest.serial}-{since}")
        return Answer(document, content_type=CBOR, tag=str(newest.serial))

    def prometheus(call: Call) -> Answer:
        return Answer(metrics_text.text(), content_type=CONTENT_TYPE)

    return [
        Route("GET", "/api/healthcheck", healthcheck, reading("Whether the directory is there", "Ok")),
        *(
            Route("POST", f"/api/presence/{path}", announce(path), posting(f"A {what} is there", "HeartbeatPost"))
            for path, what in {**PATHS, "nodes": "node that takes any role"}.items()
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
        Route(
            "GET",
            "/api/v1/topology",
            topology,
            reading(
                "The signed topology, in CBOR, or as JSON to look at; or what has changed in it since a serial",
                {},
                content={CBOR: BYTES, DELTA: BYTES, "application/json": {"type": "object"}},
                query=[
                    parameter(
                        "format", {"enum": ["cbor", "json"]}, "JSON holds the same values; it is not what is signed"
                    ),
                    parameter("since", {"type": "string", "pattern": "^[0-9]{1,19}$"}, "The serial that you have"),
                ],
                _304="You have it.",
                _400="A parameter is wrong.",
                _503="Not enough directories have signed one yet.",
            ),
        ),
        Route("GET", "/metrics", prometheus, reading("Prometheus text", {"type": "string"}, kind="text/plain")),
    ]


def topology_json(document: bytes, topology: Topology) -> bytes:
    """The signed topology for people: keys as text, signatures in hexadecimal."""
    signed = from_cbor(document, SignedTopology, MAX_TOPOLOGY_LENGTH)

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return key_text(value) if len(value) == KEY_LENGTH else value.hex()
        if isinstance(value, dict):
            return {str(plain(name)): plain(each) for name, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    shown = plain(msgspec.to_builtins(topology, builtin_types=(bytes,)))
    return json.dumps({"topology": shown, "signatures": plain(signed.signatures)}).encode()


def read_json(body: bytes) -> object:
    """The value in `body`. Raises `EncodingError`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not JSON: {error}") from None
