"""The description of the API is made of the routes, whole, and its references lead somewhere."""

import json
import re
from collections.abc import Iterator
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.testing import MemoryReactorClock

from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.service import DirectoryService, make_directory
from nymtw.web.http import RoutesResource


def resource() -> RoutesResource:
    reactor = MemoryReactorClock()
    config = DirectoryConfig(directory=DirectorySection(id="one"))
    directory = make_directory(reactor, SigningKey(bytes([1]) * 32), config)
    service = DirectoryService(reactor, directory, "127.0.0.1", 8080)
    return service.resource


def described() -> tuple[RoutesResource, dict[str, Any]]:
    site = resource()
    [route] = [route for route in site.routes if route.path == "/swagger/doc.json"]
    answer: Any = route.handler(None)  # type: ignore[arg-type]  # it looks at no request
    return site, json.loads(answer.body)


def test_every_route_of_the_api_is_described_and_nothing_else() -> None:
    site, document = described()
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    pages = re.compile(r"/(assets/.*|swagger/.*)?")
    routes = {(route.method, route.path) for route in site.routes if not pages.fullmatch(route.path)}
    assert operations == routes | {("GET", "/ws"), ("GET", "/api/v1/live")}
    assert all(operation["summary"] for item in document["paths"].values() for operation in item.values())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere() -> None:
    _, document = described()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set(references(document))
    assert found
    assert found <= known
