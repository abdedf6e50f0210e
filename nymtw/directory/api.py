"""The directory's REST API: a handler for each route, and the table of routes."""

import json
import re
from functools import partial
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


class DirectoryApi:
    """The handlers of one directory's API."""

    def __init__(self, directory: Directory, prometheus: DirectoryMetrics) -> None:
        self._directory, self._prometheus = directory, prometheus

    def healthcheck(self, call: Call) -> Answer:
        """The directory answers."""
        return as_json({"ok": True})

    def announce(self, path: str, call: Call) -> Answer:
        """The presence of a node. `path`: the last part of the URL's path."""
        self._directory.gate.look(call.source)
        self._directory.announce(path, read_json(call.body), call.source)
        return as_json({"ok": True}, 201)

    def presence(self, call: Call) -> Answer:
        """All present nodes, unsigned."""
        case = call.query.get("case", "upper")
        if case not in ("upper", "lower"):
            raise EncodingError("case is upper or lower")
        return as_json(self._directory.presence(lower=case == "lower"))

    def report(self, call: Call) -> Answer:
        """The traffic of a mixnode since its last report."""
        self._directory.gate.look(call.source)
        self._directory.report(read_json(call.body), call.source)
        return as_json({"ok": True}, 201)

    def metrics(self, call: Call) -> Answer:
        """The traffic of all mixnodes in the last complete second."""
        return as_json(self._directory.metrics())

    def topology(self, call: Call) -> Answer:
        """The signed topology in CBOR or JSON, or a delta. Raises `Unavailable` before the first one."""
        publisher = self._directory.publisher
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
        # A delta that is longer than the whole document saves nothing.
        if delta is not None and len(delta) < len(document):
            return Answer(delta, content_type=DELTA, tag=f"{newest.serial}-{since}")
        return Answer(document, content_type=CBOR, tag=str(newest.serial))

    def prometheus(self, call: Call) -> Answer:
        """The directory's metrics as Prometheus text."""
        return Answer(self._prometheus.text(), content_type=CONTENT_TYPE)

    def routes(self) -> list[Route]:
        """Presence, topology and metrics."""
        return [
            Route("GET", "/api/healthcheck", self.healthcheck, reading("Whether the directory is there", "Ok")),
            *self._announcing(),
            Route("GET", "/api/presence/topology", self.presence, _presence()),
            Route("POST", "/api/metrics/mixes", self.report, posting("What a mixnode has carried", "MetricPost")),
            Route("GET", "/api/metrics/mixes", self.metrics, _metrics()),
            Route("GET", "/api/v1/topology", self.topology, _topology()),
            Route(
                "GET", "/metrics", self.prometheus, reading("Prometheus text", {"type": "string"}, kind="text/plain")
            ),
        ]

    def _announcing(self) -> list[Route]:
        described = {
            path: posting(f"A {kind} is there", "HeartbeatPost")
            for path, kind in {**PATHS, "nodes": "node that takes any role"}.items()
        }
        described[VALIDATORS] = posting("A validator is there, which has no part in the mixnet", "ValidatorPost")
        return [
            Route("POST", f"/api/presence/{path}", partial(self.announce, path), operation)
            for path, operation in described.items()
        ]


def _presence() -> dict[str, Any]:
    return reading(
        "Who is there: what each has posted, and when it was seen last. Not signed.",
        {"oneOf": [lists(*LIST_NAMES), lists(*map(lower_first, LIST_NAMES))]},
        query=[parameter("case", {"enum": ["upper", "lower"]}, "How the names of the lists begin")],
        _400="case is something else",
    )


def _metrics() -> dict[str, Any]:
    return reading("What the mixnodes carried in the last complete second", many({"$ref": METRIC_SEEN}))


def _topology() -> dict[str, Any]:
    forms = {"enum": ["cbor", "json"]}
    return reading(
        "The signed topology, in CBOR, or as JSON to look at; or what has changed in it since a serial",
        {},
        content={CBOR: BYTES, DELTA: BYTES, "application/json": {"type": "object"}},
        query=[
            parameter("format", forms, "JSON holds the same values; it is not what is signed"),
            parameter("since", {"type": "string", "pattern": "^[0-9]{1,19}$"}, "The serial that you have"),
        ],
        _304="You have it.",
        _400="A parameter is wrong.",
        _503="Not enough directories have signed one yet.",
    )


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
