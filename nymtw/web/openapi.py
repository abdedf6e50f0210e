"""The OpenAPI 3.1 description of an API, made from its table of routes."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from nymtw.web.http import Answer, Call, Route

SCHEMAS_AT = "#/components/schemas/"
INTEGER: Mapping[str, Any] = {"type": "integer", "minimum": 0}
KEY: Mapping[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}=$"}


def record(**properties: Any) -> dict[str, Any]:
    """The schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def many(items: Any) -> dict[str, Any]:
    """The schema of a list."""
    return {"type": "array", "items": items}


def reference(name: str) -> dict[str, str]:
    """A reference to a named schema."""
    return {"$ref": f"{SCHEMAS_AT}{name}"}


def answers(schema: Any, code: int = 200, *, kind: str = "application/json", also: Mapping[int, str]) -> dict[str, Any]:
    """The answers of an operation: the normal one, and refusals with the schema Error."""
    good = {"description": "OK", "content": {kind: {"schema": schema}}}
    refusals = {
        str(number): {"description": text, "content": {"application/json": {"schema": reference("Error")}}}
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
    """The description of a GET. `schema`: a schema, or the name of one, of the answer. `also`: `_400="why"` and so on.

    `content` replaces `schema` and `kind`: a schema for each type of content.
    """
    reasons = {int(code.removeprefix("_")): text for code, text in also.items()}
    shape = reference(schema) if isinstance(schema, str) else schema
    responses = answers(shape, kind=kind, also=reasons)
    if content is not None:
        responses["200"] = {"description": "OK", "content": {each: {"schema": content[each]} for each in content}}
    return {"summary": summary, "parameters": list(query), "responses": responses}


def parameter(name: str, schema: Any, description: str, required: bool = False) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def document(routes: Sequence[Route], title: str, description: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of all routes with an operation. `schemas`: the named schemas that they refer to."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.operation:
            paths.setdefault(route.path, {})[route.method.lower()] = route.operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version("nymtw"),
            "description": description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": dict(schemas)},
    }


def description_route(described: Mapping[str, Any], prefix: str = "") -> Route:
    """`GET PREFIX/swagger/doc.json`, which returns the result of `document`."""
    body = json.dumps(described, separators=(",", ":")).encode()

    def describe(call: Call) -> Answer:
        return Answer(body)

    return Route("GET", f"{prefix}/swagger/doc.json", describe)
