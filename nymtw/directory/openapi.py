"""The API's description (OpenAPI 3.1), made of the same table that makes the routes."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from nymtw.directory.http import Answer, Call, Route
from nymtw.topology.presence import HeartbeatPost, MetricPost, ValidatorPost

_SCHEMAS = "#/components/schemas/"
_INTEGER: Mapping[str, Any] = {"type": "integer", "minimum": 0}
KEY: Mapping[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}=$"}
_NANOSECONDS: Mapping[str, Any] = {**_INTEGER, "description": "nanoseconds since 1970"}


def record(**properties: Any) -> dict[str, Any]:
    """An object that has all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def many(items: Any) -> dict[str, Any]:
    """A list."""
    return {"type": "array", "items": items}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"{_SCHEMAS}{name}"}


_NODE_FIELDS: Mapping[str, Any] = {
    "identityKey": KEY,
    "pubKey": KEY,
    "role": {"enum": ["mixnode", "provider", "gateway"]},
    "layer": {"enum": [0, 1, 2, 3]},
    "host": {"type": "string"},
    "port": _INTEGER,
    "clientPort": _INTEGER,
    "keyEpochs": many(_INTEGER),
    "clients": _INTEGER,
    "version": {"type": "string"},
    "description": {"type": "string"},
    "country": {"type": "string", "pattern": "^([A-Z]{2})?$"},
    "since": {**_INTEGER, "description": "milliseconds since 1970"},
}
_PRESENCE_FIELDS = {"lastSeen": _NANOSECONDS}
SCHEMAS: Mapping[str, Any] = {
    "Ok": record(ok={"const": True}),
    "Error": record(error={"type": "string"}),
    "Presence": {"type": "object", "properties": _PRESENCE_FIELDS, "required": ["lastSeen"]},
    "Node": record(**_NODE_FIELDS),
    "MetricSeen": record(pubKey={"type": "string"}, sent=_INTEGER, received=_INTEGER, timestamp=_NANOSECONDS),
    "Standing": record(seconds=_INTEGER, watched=_INTEGER, up=_INTEGER, loopsSent=_INTEGER, loopsReturned=_INTEGER),
    "NodeDetail": record(
        node={
            "anyOf": [
                {"type": "null"},
                record(**_NODE_FIELDS, clockSkew={"type": "number"}, lastSeen=_NANOSECONDS),
            ]
        },
        standing=many(_reference("Standing")),
    ),
    "History": record(
        window={"enum": ["hour", "day", "year"]},
        seconds={"enum": [1, 60, 3600]},
        points=many({**many(_INTEGER), "minItems": 4, "maxItems": 4}),
    ),
    "Nodes": record(
        revision=_INTEGER,
        directory=record(
            version={"type": "string"}, identityKeys=many(KEY), threshold=_INTEGER, refresh={"type": "number"}
        ),
        nodes=many(_reference("Node")),
        validators=many(
            record(pubKey={"type": "string"}, host={"type": "string"}, type={"type": "string"}, lastSeen=_INTEGER)
        ),
    ),
}


def lists(*names: str) -> dict[str, Any]:
    """An object of lists of what nodes have posted."""
    return record(**{name: many(_reference("Presence")) for name in names})


def answers(schema: Any, code: int = 200, *, kind: str = "application/json", also: Mapping[int, str]) -> dict[str, Any]:
    """The answers of an operation: one that it is for, and refusals."""
    good = {"description": "OK", "content": {kind: {"schema": schema}}}
    refusals = {
        str(number): {"description": text, "content": {"application/json": {"schema": _reference("Error")}}}
        for number, text in also.items()
        if number != 304
    }
    unchanged = {"304": {"description": also[304]}} if 304 in also else {}
    return {str(code): good, **refusals, **unchanged}


def reading(
    summary: str,
    schema: Any,
    *,
    kind: str = "application/json",
    content: Mapping[str, Any] | None = None,
    query: Sequence[Mapping[str, Any]] = (),
    **also: str,
) -> dict[str, Any]:
    """A GET. `schema`: of its answer, a name of `SCHEMAS` or a schema; `also`: `_400="why"` and the like.

    `content` in place of `schema` and `kind`: a schema for each type of content.
    """
    said = {int(code.removeprefix("_")): text for code, text in also.items()}
    shape = _reference(schema) if isinstance(schema, str) else schema
    responses = answers(shape, kind=kind, also=said)
    if content is not None:
        responses["200"] = {"description": "OK", "content": {each: {"schema": content[each]} for each in content}}
    return {"summary": summary, "parameters": list(query), "responses": responses}


def posting(summary: str, schema: str) -> dict[str, Any]:
    """A POST of the JSON whose schema has this name."""
    also = {400: "It is refused; the answer says why.", 413: "The body is longer than 65,536 bytes."}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(schema)}}},
        "responses": answers(_reference("Ok"), 201, also=also),
    }


def parameter(name: str, schema: Any, description: str, required: bool = False) -> dict[str, Any]:
    """One of the query."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def websocket(path: str, summary: str) -> Route:
    """A websocket, for the description alone: what answers is the hub."""
    also = {426: "The request does not ask for a websocket."}
    responses = {"101": {"description": "The websocket is open."}, **answers({}, also=also)}
    del responses["200"]
    return Route("GET", path, _nothing, {"summary": summary, "responses": responses})


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The description of those routes that have an operation."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.operation:
            paths.setdefault(route.path, {})[route.method.lower()] = route.operation
    _, posts = msgspec.json.schema_components(
        [HeartbeatPost, MetricPost, ValidatorPost], ref_template=_SCHEMAS + "{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "The directory of a nymtw network",
            "version": version("nymtw"),
            "description": "Nodes announce themselves, everybody learns the network. docs/protocol.md has the formats.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {**posts, **SCHEMAS}},
    }


def description_route(routes: Sequence[Route]) -> Route:
    """`GET /swagger/doc.json`."""
    body = json.dumps(document(routes), separators=(",", ":")).encode()
    return Route("GET", "/swagger/doc.json", lambda call: Answer(body))


def _nothing(call: Call) -> Answer:
    raise NotImplementedError
