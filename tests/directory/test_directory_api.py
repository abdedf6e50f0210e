"""The handlers of the directory's REST API, without a server."""

import json
from typing import Any

import pytest
from nacl.signing import SigningKey

from twisted.internet.testing import MemoryReactorClock

from nymtw.directory.api import CBOR, DirectoryApi
from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.metrics import DirectoryMetrics
from nymtw.directory.service import make_directory
from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, EncodingError
from nymtw.topology.presence import make_metric
from nymtw.web.http import Call, Unavailable

START = 1_800_000_000.0
KEY = SigningKey(bytes([1]) * 32)


def make_api(**section: Any) -> DirectoryApi:
    clock = MemoryReactorClock()
    config = DirectoryConfig(directory=DirectorySection(id="one", **section))
    directory = make_directory(clock, KEY, config, wall_clock=lambda: START + float(clock.seconds()))
    return DirectoryApi(directory, DirectoryMetrics(directory))


def call(body: bytes = b"", **query: str) -> Call:
    return Call(body, query, "127.0.0.1")


@pytest.fixture
def api() -> DirectoryApi:
    return make_api()


def test_the_directory_answers(api: DirectoryApi) -> None:
    assert api.healthcheck(call()).body == b'{"ok":true}'


@pytest.mark.parametrize(("case", "name"), [("upper", "MixNodes"), ("lower", "mixNodes")])
def test_the_lists_begin_as_asked(api: DirectoryApi, case: str, name: str) -> None:
    assert json.loads(api.presence(call(case=case)).body)[name] == []


@pytest.mark.parametrize(
    ("handler", "query", "reason"),
    [
        ("presence", {"case": "camel"}, "case is upper or lower"),
        ("topology", {"format": "xml"}, "format is cbor or json"),
        ("topology", {"since": "-1"}, "since is a serial"),
    ],
)
def test_a_wrong_parameter_is_named(api: DirectoryApi, handler: str, query: dict[str, str], reason: str) -> None:
    with pytest.raises(EncodingError, match=reason):
        getattr(api, handler)(call(**query))


def test_a_body_that_is_not_json_is_refused(api: DirectoryApi) -> None:
    with pytest.raises(EncodingError, match="not JSON"):
        api.announce("mixnodes", call(b"{"))
    with pytest.raises(EncodingError, match="not JSON"):
        api.report(call(b"\xff"))


def test_the_metric_of_an_unknown_node_is_refused(api: DirectoryApi) -> None:
    metric = make_metric(public_key=bytes(32), sent=1, received=1, timestamp=int(START * 1e9), signing_key=KEY)
    with pytest.raises(DirectoryError, match="no mixnode with this identity"):
        api.report(call(json.dumps(metric).encode()))
    assert json.loads(api.metrics(call()).body) == []


def test_the_topology_has_a_tag_for_each_form(api: DirectoryApi) -> None:
    whole, shown = api.topology(call()), api.topology(call(format="json"))
    assert (whole.content_type, shown.tag) == (CBOR, f"{whole.tag}-json")
    assert json.loads(shown.body)["topology"]["serial"] == int(whole.tag)


def test_no_topology_before_directories_agree() -> None:
    peer = SigningKey(bytes([2]) * 32).verify_key
    api = make_api(peers=[f"http://two:8080={key_text(bytes(peer))}"])
    with pytest.raises(Unavailable):
        api.topology(call())


def test_every_route_has_a_handler_and_a_description(api: DirectoryApi) -> None:
    routes = api.routes()
    assert len({(route.method, route.path) for route in routes}) == len(routes) == 11
    assert all(route.operation["summary"] for route in routes)
    [health] = [route for route in routes if route.path == "/api/healthcheck"]
    assert health.handler(call()) == api.healthcheck(call())
