"""The schemas of the directory's requests and answers, and its description (OpenAPI 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nymtw.topology.presence import HeartbeatPost, MetricPost, ValidatorPost
from nymtw.web.http import Answer, Call, Route
from nymtw.web.openapi import INTEGER, KEY, SCHEMAS_AT, answers, description_route, document, many, record, reference

_NANOSECONDS: Mapping[str, Any] = {**INTEGER, "description": "nanoseconds since 1970"}
_NODE_FIELDS: Mapping[str, Any] = {
    "identityKey": KEY,
    "pubKey": KEY,
    "role": {"enum": ["mixnode", "provider", "gateway", "any"]},
    "layer": {"enum": [0, 1, 2, 3]},
    "host": {"type": "string"},
    "port": INTEGER,
    "clientPort": INTEGER,
    "keyEpochs": many(INTEGER),
    "clients": INTEGER,
    "services": many({"type": "string"}),
    "version": {"type": "string"},
    "description": {"type": "string"},
    "country": {"type": "string", "pattern": "^([A-Z]{2})?$"},
    "since": {**INTEGER, "description": "milliseconds since 1970"},
}
_PRESENCE_FIELDS = {"lastSeen": _NANOSECONDS}
SCHEMAS: Mapping[str, Any] = {
    "Ok": record(ok={"const": True}),
    "Error": record(error={"type": "string"}),
    "Presence": {"type": "object", "properties": _PRESENCE_FIELDS, "required": ["lastSeen"]},
    "Node": record(**_NODE_FIELDS),
    "MetricSeen": record(pubKey={"type": "string"}, sent=INTEGER, received=INTEGER, timestamp=_NANOSECONDS),
    "Standing": record(seconds=INTEGER, watched=INTEGER, up=INTEGER, loopsSent=INTEGER, loopsReturned=INTEGER),
    "NodeDetail": record(
        node={
            "anyOf": [
                {"type": "null"},
                record(**_NODE_FIELDS, clockSkew={"type": "number"}, lastSeen=_NANOSECONDS),
            ]
        },
        standing=many(reference("Standing")),
    ),
    "History": record(
        window={"enum": ["hour", "day", "year"]},
        seconds={"enum": [1, 60, 3600]},
        points=many({**many(INTEGER), "minItems": 4, "maxItems": 4}),
    ),
    "Nodes": record(
        revision=INTEGER,
        directory=record(
            version={"type": "string"},
            identityKeys=many(KEY),
            threshold=INTEGER,
            refresh={"type": "number"},
            signers=many(KEY),
        ),
        nodes=many(reference("Node")),
        silent=many(record(identityKey=KEY, role={"type": "string"}, layer=INTEGER)),
        validators=many(
            record(
                pubKey={"type": "string"},
                host={"type": "string"},
                type={"type": "string"},
                lastSeen=INTEGER,
                height={"type": ["integer", "null"]},
                blockTime=INTEGER,
            )
        ),
    ),
}


def lists(*names: str) -> dict[str, Any]:
    """An object of lists of what nodes have posted."""
    return record(**{name: many(reference("Presence")) for name in names})


def posting(summary: str, schema: str) -> dict[str, Any]:
    """A POST of the JSON whose schema has this name."""
    also = {
        400: "It is refused; the answer says why.",
        413: "The body is longer than 65,536 bytes.",
        429: "Too many posts from this address.",
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference(schema)}}},
        "responses": answers(reference("Ok"), 201, also=also),
    }


def websocket(path: str, summary: str) -> Route:
    """A websocket, for the description alone: the live feed answers it."""
    also = {426: "The request does not ask for a websocket."}
    responses = {"101": {"description": "The websocket is open."}, **answers({}, also=also)}
    del responses["200"]
    return Route("GET", path, _nothing, {"summary": summary, "responses": responses})


def describing(routes: Sequence[Route]) -> Route:
    """`GET /swagger/doc.json`, the description of those routes that have an operation."""
    _, posts = msgspec.json.schema_components(
        [HeartbeatPost, MetricPost, ValidatorPost], ref_template=SCHEMAS_AT + "{name}"
    )
    return description_route(
        document(
            routes,
            "The directory of a nymtw network",
            "Nodes announce themselves, everybody learns the network. docs/protocol.md has the formats.",
            {**posts, **SCHEMAS},
        )
    )


def _nothing(call: Call) -> Answer:
    raise NotImplementedError
