"""The web proxy: what it fetches and how, where it refuses to go, and what it does with servers that misbehave."""

import gzip
from typing import Any

import pytest

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.web import http
from twisted.web.client import URI

from nymtw.errors import ConfigError
from nymtw.message.web import WebHead, WebPart, WebRequest
from nymtw.provider.services.addresses import is_public
from nymtw.provider.webproxy.policy import CheckedEndpoints, PolicyError, WebPolicy
from nymtw.provider.webproxy.service import Options, make_provider
from nymtw.testing.provider_contracts import ServiceContract
from nymtw.testing.service_bench import ServiceBench

PRIVATE_ERROR = "this web proxy does not allow private addresses"
PUBLIC = "93.184.215.14"
PRIVATE = "10.0.0.7"
BIG = bytes(range(256)) * 4096 * 3


class Page(http.Request):
    def process(self) -> None:
        path = self.path.decode()
        self.channel.factory.asked.append((self.method, path, self.requestHeaders, self.content.read()))
        self.setHeader(b"server", b"test")
        if path == "/echo":
            self.content.seek(0)
            self.write(self.method + b" " + self.content.read())
        elif path.startswith("/to/"):
            code, _, place = path.removeprefix("/to/").partition("/")
            self.setResponseCode(int(code))
            self.setHeader(b"location", place.encode())
        elif path == "/big":
            self.setHeader(b"content-length", b"%d" % len(BIG))
            self.write(BIG)
        elif path == "/chunked":
            for number in range(50):
                self.write(b"%05d" % number * 1000)
        elif path == "/gzip":
            self.setHeader(b"content-encoding", b"gzip")
            self.write(gzip.compress(b"packed " * 1000, mtime=0))
        elif path == "/silent":
            return
        elif path == "/stalls":
            self.write(b"a beginning")
            return
        elif path == "/breaks":
            self.setHeader(b"content-length", b"1000")
            self.write(b"half")
            self.channel.loseConnection()
            return
        elif path == "/missing":
            self.setResponseCode(404)
        else:
            self.setHeader(b"content-length", b"6")
            self.write(b"a page")
        self.finish()


class Web(http.HTTPFactory):
    def __init__(self, reactor: Any) -> None:
        super().__init__(timeout=None, reactor=reactor)
        self.asked: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        channel.requestFactory = Page
        return channel

    def log(self, request: Any) -> None:
        pass


def serve(bench: ServiceBench, address: str = PUBLIC) -> Web:
    host = bench.network.host(address, address)
    web = Web(host)
    host.listenTCP(80, web, interface=address)
    return web


class Answer:
    """The response that the parts make."""

    def __init__(self, answers: list[bytes]) -> None:
        self.parts = sorted((WebPart.parse(answer) for answer in answers), key=lambda part: part.number)
        assert [part.number for part in self.parts] == list(range(len(self.parts)))
        assert [part.last for part in self.parts] == [False] * (len(self.parts) - 1) + [True]
        self.head: WebHead = self.parts[0].head  # type: ignore[assignment]
        self.body = b"".join(part.data for part in self.parts)
        self.error = self.parts[-1].error

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.head.headers if key.lower() == name]


def fetch(bench: ServiceBench, url: str, limit: float = 900, **fields: Any) -> Answer:
    person = bench.asker()
    person.ask(WebRequest(id=b"i" * 16, url=url, **fields).encode(), 60)
    bench.clock.advance_until(lambda: any(WebPart.parse(answer).last for answer in person.answers), limit)
    bench.clock.advance(30)
    return Answer(person.answers)


@pytest.fixture
def bench(seed: int) -> Any:
    with ServiceBench("webproxy", seed=seed) as bench:
        yield bench


class TestContract(ServiceContract):
    implementation = "webproxy"
    request = WebRequest(id=b"i" * 16, url=f"http://{PUBLIC}/").encode()
    reaches_out = True

    def prepare(self, bench: ServiceBench) -> None:
        serve(bench)


def test_a_page_with_its_status_and_headers(bench: ServiceBench) -> None:
    web = serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/page?q=1#part")
    assert (answer.head.status, answer.head.reason, answer.body) == (200, "OK", b"a page")
    assert answer.header(b"server") == [b"test"]
    assert answer.header(b"connection") == []
    assert answer.header(b"content-length") == [b"6"]
    assert answer.head.url == f"http://{PUBLIC}/page?q=1#part"
    assert web.asked[0][1] == "/page"


def test_it_adds_nothing_of_its_own_and_passes_on_nothing_that_names_who_asks(bench: ServiceBench) -> None:
    web = serve(bench)
    headers = ((b"Accept", b"text/html"), (b"X-Forwarded-For", b"192.168.1.1"), (b"Via", b"me"), (b"Host", b"other"))
    fetch(bench, f"http://{PUBLIC}/", headers=headers)
    [(_, _, asked, _)] = web.asked
    assert {name.lower(): values for name, values in asked.getAllRawHeaders()} == {
        b"accept": [b"text/html"],
        b"host": [PUBLIC.encode()],
        b"connection": [b"close"],
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_methods_and_bodies(bench: ServiceBench, method: str) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/echo", method=method, body=b"what is sent")
    assert answer.body == method.encode() + b" what is sent"


def test_a_head_has_no_body(bench: ServiceBench) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/big", method="HEAD")
    assert (answer.header(b"content-length"), answer.body) == ([b"%d" % len(BIG)], b"")


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "GETS"])
def test_a_method_that_is_none_of_the_web_is_refused(bench: ServiceBench, method: str) -> None:
    assert fetch(bench, f"http://{PUBLIC}/", method=method).error == f"this web proxy does not support {method}"


@pytest.mark.long
def test_a_large_response_streams_and_its_server_waits(bench: ServiceBench) -> None:
    serve(bench)
    person = bench.asker()
    person.ask(WebRequest(id=b"i" * 16, url=f"http://{PUBLIC}/big").encode(), 60)
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, bench.service_host.dispatch.size)
        return sum(len(WebPart.parse(answer).data) for answer in person.answers) == len(BIG)

    bench.clock.advance_until(done, 600)
    bench.clock.advance(30)
    assert Answer(person.answers).body == BIG
    assert most < 2.3 * 2**20


def test_a_chunked_response(bench: ServiceBench) -> None:
    serve(bench)
    assert fetch(bench, f"http://{PUBLIC}/chunked").body == b"".join(b"%05d" % number * 1000 for number in range(50))


def test_a_compressed_body_stays_compressed(bench: ServiceBench) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/gzip", headers=((b"Accept-Encoding", b"gzip"),))
    assert answer.header(b"content-encoding") == [b"gzip"]
    assert len(answer.body) < 500
    assert gzip.decompress(answer.body) == b"packed " * 1000


@pytest.mark.parametrize(
    ("code", "method", "body", "arrives"),
    [
        (301, "POST", b"x", b"GET "),
        (302, "POST", b"x", b"GET "),
        (303, "PUT", b"x", b"GET "),
        (307, "POST", b"x", b"POST x"),
        (308, "PUT", b"x", b"PUT x"),
    ],
)
def test_redirects(bench: ServiceBench, code: int, method: str, body: bytes, arrives: bytes) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/to/{code}//echo", method=method, body=body)
    assert (answer.body, answer.head.url) == (arrives, f"http://{PUBLIC}/echo")


def test_redirects_are_passed_on_where_they_are_not_to_be_followed(bench: ServiceBench) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/to/302//echo", follow=False)
    assert (answer.head.status, answer.header(b"location")) == (302, [b"/echo"])


def test_a_circle_of_redirects_ends(bench: ServiceBench) -> None:
    web = serve(bench)
    assert fetch(bench, f"http://{PUBLIC}/to/302/").error == "more than 10 redirects" or len(web.asked) <= 11
    circle = "/to/302/" * 3
    assert fetch(bench, f"http://{PUBLIC}{circle}", limit=900) is not None
    assert len(web.asked) <= 25


def test_a_redirect_to_another_site_does_not_carry_secrets(bench: ServiceBench) -> None:
    here, there = serve(bench), serve(bench, "1.1.1.1")
    headers = ((b"Cookie", b"c"), (b"Authorization", b"a"), (b"Accept", b"x"))
    fetch(bench, f"http://{PUBLIC}/to/302/http://1.1.1.1/", headers=headers)
    assert here.asked[0][2].hasHeader(b"cookie")
    names = {name.lower() for name, _ in there.asked[0][2].getAllRawHeaders()}
    assert names == {b"accept", b"host", b"connection"}


@pytest.mark.parametrize(
    "url",
    [
        f"http://{PRIVATE}/",
        "http://127.0.0.1/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data/",
        f"http://{PUBLIC}/to/302/http://{PRIVATE}/",
        f"http://{PUBLIC}/to/302/http://localhost/",
    ],
)
def test_private_addresses_are_refused_also_behind_a_redirect(bench: ServiceBench, url: str) -> None:
    serve(bench)
    inside = [serve(bench, address) for address in (PRIVATE, "127.0.0.1", "169.254.169.254")]
    named = "localhost" in url
    assert fetch(bench, url).error == ("this host has no address" if named else PRIVATE_ERROR)
    assert [web.asked for web in inside] == [[], [], []]
    assert bench.metrics["refused"] == 1


def test_private_addresses_where_the_operator_allows_them(seed: int) -> None:
    with ServiceBench("webproxy", ["--web-private"], seed=seed) as bench:
        serve(bench, PRIVATE)
        assert fetch(bench, f"http://{PRIVATE}/").body == b"a page"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),
        ("127.8.9.1", False),
        ("10.1.2.3", False),
        ("172.31.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
        ("fec0::1", False),
        ("64:ff9b:1::7f00:1", False),
        ("::127.0.0.1", False),
        ("3fff::1", False),
        ("a name", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


class Resolving:
    """A reactor whose names have the answers given, one after the other, and that notes where it connects."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.connected: list[tuple[str, int]] = []
        self.factories: list[Any] = []
        self.nameResolver = self

    def resolveHostName(self, receiver: Any, name: str, port: int) -> None:
        for address in self.answers.pop(0):
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, port))
        receiver.resolutionComplete()

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float, bindAddress: Any = None) -> None:
        self.connected.append((host, port))
        self.factories.append(factory)


def connect(reactor: Resolving, url: bytes = b"http://rebound.example/", policy: WebPolicy | None = None) -> Any:
    endpoint = CheckedEndpoints(reactor, policy or WebPolicy()).endpointForURI(URI.fromBytes(url))
    return endpoint.connect(Factory.forProtocol(Protocol))


def test_the_connection_goes_to_the_very_address_that_was_checked() -> None:
    reactor = Resolving([PUBLIC], ["127.0.0.1"])
    connect(reactor)
    assert reactor.connected == [(PUBLIC, 80)]
    assert len(reactor.answers) == 1, "the name was resolved again"


def test_a_name_that_leads_inside_is_refused_and_one_that_also_leads_outside_goes_there() -> None:
    reactor = Resolving(["127.0.0.1", "::1"], ["10.0.0.1", PUBLIC], [])
    failed = []
    connect(reactor).addErrback(failed.append)
    connect(reactor)
    connect(reactor).addErrback(failed.append)
    assert [str(failure.value) for failure in failed] == [
        "this host has no address",
        "this host has no address",
    ]
    assert reactor.connected == [(PUBLIC, 80)]


def test_hosts_and_ports_that_the_operator_allows() -> None:
    policy = WebPolicy(("example.org", "*.example.com"), frozenset({80, 8000}))
    for host, port in (("example.org", 80), ("EXAMPLE.ORG.", 8000), ("a.b.example.com", 80)):
        policy.check_name(host, port)
    for host, port in (("example.com", 80), ("evilexample.com", 80), ("a.example.org", 80), ("example.org", 81)):
        with pytest.raises(PolicyError):
            policy.check_name(host, port)


def test_a_port_that_is_not_allowed_is_refused(bench: ServiceBench) -> None:
    assert fetch(bench, f"http://{PUBLIC}:22/").error == "this web proxy does not allow port 22"


@pytest.mark.parametrize("url", ["ftp://a/", "nothing", "http://", "http:///x", "file:///etc/passwd", "http://a b/"])
def test_what_is_no_url_of_the_web_is_refused(bench: ServiceBench, url: str) -> None:
    assert fetch(bench, url).error
    assert not bench.network.connections()


def test_a_server_that_cannot_be_reached(bench: ServiceBench) -> None:
    assert fetch(bench, "http://8.8.8.8/").error == "the server cannot be reached (ConnectionRefusedError)"


def test_a_server_that_breaks_off(bench: ServiceBench) -> None:
    serve(bench)
    answer = fetch(bench, f"http://{PUBLIC}/breaks")
    assert answer.error == "the server's answer is not valid HTTP (ConnectionDone)"


@pytest.mark.parametrize(
    ("path", "error"),
    [("/silent", "the server has not answered in time"), ("/stalls", "the server sends nothing any more")],
)
def test_a_server_that_falls_silent(bench: ServiceBench, path: str, error: str) -> None:
    serve(bench)
    assert fetch(bench, f"http://{PUBLIC}{path}").error == error
    assert not bench.network.connections()


def test_a_response_that_is_too_long(seed: int) -> None:
    with ServiceBench("webproxy", ["--web-size=1"], seed=seed) as bench:
        serve(bench)
        person = bench.asker()
        person.ask(WebRequest(id=b"i" * 16, url=f"http://{PUBLIC}/big").encode(), 60)
        bench.clock.advance_until(lambda: any(WebPart.parse(answer).error for answer in person.answers), 600)
        bench.clock.advance(60)
        answer = Answer(person.answers)
        assert answer.error == "the response is longer than this web proxy allows"
        assert len(answer.body) <= 2**20
        assert not bench.network.connections()


def test_who_asked_and_went_away_does_not_keep_the_server(bench: ServiceBench) -> None:
    serve(bench)
    person = bench.asker()
    person.ask(WebRequest(id=b"i" * 16, url=f"http://{PUBLIC}/big").encode(), 5)
    bench.clock.advance(1)
    del bench.people[person.address.mailbox]
    bench.clock.advance(200)
    assert not bench.network.connections()
    assert len(bench.service_host.provider) == 0


@pytest.mark.parametrize("ports", ["http", "0", "80,", "70000"])
def test_ports_that_are_none_are_refused(ports: str) -> None:
    options = Options()
    options.parseOptions([f"--web-ports={ports}"])
    with pytest.raises(ConfigError, match="is not a list of ports"):
        make_provider(None, options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "192.88.99.1",
        "2002:c058:6301::",
        "64:ff9b:1::a00:1",
        "5f00::1",
        *(
            f"2606:4700::{half}:5efe:{inside}"
            for half in ("0", "200")
            for inside in ("127.0.0.1", "10.0.0.7", "192.88.99.1")
        ),
        "2001:db8::5efe:8.8.8.8",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["2606:4700::5efe:8.8.8.8", "2606:4700::200:5efe:8.8.8.8", "2606:4700::1", "8.8.8.8"]
)
def test_public_ones_are(address: str) -> None:
    assert is_public(address)


class Line(StringTransport):
    """A connection with two ends."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("own", [True, False])
def test_the_proxys_own_machine_is_not_reached_by_its_public_address(own: bool) -> None:
    transport = Line(IPv4Address("TCP", PUBLIC if own else "10.0.0.1", 1), IPv4Address("TCP", PUBLIC, 80))
    reactor = Resolving([PUBLIC])
    connected: list[Any] = []
    connect(reactor).addBoth(connected.append)
    reactor.factories[0].buildProtocol(None).makeConnection(transport)
    assert transport.aborted is own
    [found] = connected
    assert isinstance(found, Protocol) is not own
