"""The web proxy and https: TLS is real, by OpenSSL, and certificates are real ones of an authority made here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web import http

from nymtw.message.web import WebPart, WebRequest
from nymtw.provider.webproxy.policy import WebPolicy
from nymtw.provider.webproxy.service import Options, WebProxy
from nymtw.testing.service_bench import ServiceBench

pytestmark = pytest.mark.pythons

SITE = "93.184.215.14"
REFUSED = "the server's certificate is not valid for this host"
NOW = datetime.now(UTC)  # OpenSSL compares with the time of day


@dataclass
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, certify(key, key, name, name, (), authority=True))

    def issue(self, *names: str, days: tuple[int, int] = (-1, 1)) -> CertificateOptions:
        """What a server of these names shows."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        made = certify(key, self.key, names[0], str(issuer), names, days=days)
        return CertificateOptions(key, made)

    def trusted(self) -> Any:
        return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(self.certificate))])


def certify(
    key: Any,
    signer: Any,
    subject: str,
    issuer: str,
    names: tuple[str, ...],
    authority: bool = False,
    days: tuple[int, int] = (-1, 1),
) -> x509.Certificate:
    """A certificate of `key` by `signer`, valid from and to so many days from now."""
    subject_name, issuer_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)
    )
    builder = x509.CertificateBuilder().subject_name(subject_name).issuer_name(issuer_name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW + timedelta(days[0])).not_valid_after(NOW + timedelta(days[1]))
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())


AUTHORITY = Authority.make("the authority that is trusted")
STRANGER = Authority.make("an authority that nobody knows")


class Proxy:
    """The plugin, with an authority of our own in place of the platform's."""

    name, summary, options = "webproxy", "fetches", Options

    @staticmethod
    def make_provider(context: Any, options: Any) -> WebProxy:
        return WebProxy(context, WebPolicy(), size=2**20, seconds=600.0, trust_root=AUTHORITY.trusted())


class Page(http.Request):
    def process(self) -> None:
        if self.path == b"/elsewhere":
            self.redirect(b"https://other.example/")
        else:
            self.write(b"a page")
        self.finish()


class Greeting(Protocol):
    """Speaks first, and no TLS."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 mail.example ESMTP\r\n")


class Names:
    """Every name leads to the one server."""

    def resolveHostName(self, receiver: Any, host: str, port: int, *rest: Any) -> Any:
        assert IResolutionReceiver.providedBy(receiver)
        receiver.resolutionBegan(self)
        if host.endswith(".example"):
            receiver.addressResolved(IPv4Address("TCP", SITE, port))
        receiver.resolutionComplete()
        return self


@pytest.fixture
def bench(seed: int) -> Iterator[ServiceBench]:
    with ServiceBench(Proxy, seed=seed) as bench:
        bench.host.installNameResolver(Names())
        yield bench


def serve(bench: ServiceBench, shown: Any) -> list[str]:
    """A web server at port 443 with what it shows; the result grows by every name that a client asks for (SNI)."""
    asked: list[str] = []
    host = bench.network.host(SITE, SITE)
    site: Any = http.HTTPFactory(timeout=None, reactor=host)
    site.log = lambda request: None
    make = site.buildProtocol

    def build(address: Any) -> Any:
        channel = make(address)
        channel.requestFactory = Page
        return channel

    site.buildProtocol = build
    context = shown.getContext()
    context.set_tlsext_servername_callback(lambda connection: asked.append(connection.get_servername().decode()))
    host.listenTCP(443, TLSMemoryBIOFactory(shown, False, site, clock=host), interface=SITE)
    return asked


def fetch(bench: ServiceBench, url: str) -> WebPart:
    """The answer, which is one part."""
    person = bench.asker()
    person.ask(WebRequest(id=b"i" * 16, url=url).encode(), 60)
    bench.clock.advance_until(lambda: any(WebPart.parse(answer).last for answer in person.answers), 300)
    bench.clock.advance(30)
    [part] = [WebPart.parse(answer) for answer in person.answers]
    return part


def test_a_certificate_of_a_trusted_authority_for_the_name_that_was_asked(bench: ServiceBench) -> None:
    asked = serve(bench, AUTHORITY.issue("site.example"))
    part = fetch(bench, "https://site.example/")
    assert (part.error, part.data) == ("", b"a page")
    assert asked == ["site.example"]


def test_a_wildcard_is_good_for_one_label(bench: ServiceBench) -> None:
    serve(bench, AUTHORITY.issue("*.site.example"))
    assert fetch(bench, "https://www.site.example/").data == b"a page"
    assert fetch(bench, "https://a.b.site.example/").error == REFUSED


SHOWN = {
    "another name": lambda: AUTHORITY.issue("other.example"),
    "signed by itself": lambda: Authority.make("site.example").issue("site.example"),
    "an unknown authority": lambda: STRANGER.issue("site.example"),
    "expired": lambda: AUTHORITY.issue("site.example", days=(-9, -1)),
    "not yet valid": lambda: AUTHORITY.issue("site.example", days=(2, 9)),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN.keys())
def test_any_other_certificate_is_refused(bench: ServiceBench, shown: Any) -> None:
    serve(bench, shown())
    part = fetch(bench, "https://site.example/")
    assert (part.head, part.data, part.error) == (None, b"", REFUSED)
    assert bench.metrics["unreachable"] == 1
    assert not bench.network.connections()


def test_a_redirect_is_verified_too(bench: ServiceBench) -> None:
    serve(bench, AUTHORITY.issue("site.example"))
    assert fetch(bench, "https://site.example/elsewhere").error == REFUSED


def test_where_no_tls_is_spoken(bench: ServiceBench) -> None:
    bench.network.host(SITE, SITE).listenTCP(443, Factory.forProtocol(Greeting), interface=SITE)
    assert fetch(bench, "https://site.example/").error == "TLS with this server failed"


def test_old_versions_of_tls_are_not_spoken(bench: ServiceBench) -> None:
    shown = AUTHORITY.issue("site.example")
    shown.getContext().set_options(SSL.OP_NO_TLSv1_2 | SSL.OP_NO_TLSv1_3)
    serve(bench, shown)
    assert fetch(bench, "https://site.example/").error == "TLS with this server failed"


def test_the_platforms_authorities_are_trusted_and_no_other(seed: int) -> None:
    with ServiceBench("webproxy", seed=seed) as bench:
        bench.host.installNameResolver(Names())
        serve(bench, AUTHORITY.issue("site.example"))
        assert fetch(bench, "https://site.example/").error == REFUSED
