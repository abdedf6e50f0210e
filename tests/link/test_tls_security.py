"""TLS between nodes: each end knows the other's identity key, or there is no connection."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from OpenSSL import SSL

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nymtw.link import security as security_module
from nymtw.link.security import ILinkSecurity, TLSSecurity
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork

pytestmark = pytest.mark.pythons

ALICE, BOB, MALLORY = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))


def identity(key):
    return bytes(key.verify_key)


@implementer(IHandshakeListener)
class End(Protocol):
    def __init__(self):
        self.done, self.lost, self.received = False, None, b""

    def handshakeCompleted(self):
        self.done = True

    def dataReceived(self, data):
        assert self.done
        self.received += data

    def connectionLost(self, reason):
        self.lost = reason


class Ends(ClientFactory):
    noisy = False

    def __init__(self):
        self.end = End()

    def buildProtocol(self, addr):
        return self.end


class Meeting:
    """A server and a client, joined in memory."""

    def __init__(self, server, client, expected, ask_peer=True):
        self.clock = FakeClock()
        network = MemoryNetwork(self.clock, latency=0.001)
        self.server_security, self.client_security = server, client
        servers, clients = Ends(), Ends()
        self.server, self.client = servers.end, clients.end
        network.host("server", "10.0.0.1").listenTCP(1, server.server(servers, ask_peer))
        network.host("client", "10.0.0.2").connectTCP("10.0.0.1", 1, client.client(clients, expected))
        self.clock.advance(1)


def test_interface():
    assert verifyObject(ILinkSecurity, TLSSecurity(None))


def test_both_ends_know_each_other():
    meeting = Meeting(TLSSecurity(BOB), TLSSecurity(ALICE), identity(BOB))
    assert meeting.server.done
    assert meeting.client.done
    assert meeting.server_security.peer_identity(meeting.server.transport) == identity(ALICE)
    assert meeting.client_security.peer_identity(meeting.client.transport) == identity(BOB)
    assert meeting.server.transport.getHandle().get_protocol_version_name() == "TLSv1.3"
    meeting.client.transport.write(b"x" * 100_000)
    meeting.clock.advance(1)
    assert meeting.server.received == b"x" * 100_000


def test_the_exporter_is_the_same_at_both_ends_and_never_again():
    seen = set()
    for _ in range(3):
        meeting = Meeting(TLSSecurity(BOB), TLSSecurity(None), identity(BOB), ask_peer=False)
        for label in (b"EXPORTER-one", b"EXPORTER-two"):
            value = meeting.server_security.exporter(meeting.server.transport, label)
            assert value == meeting.client_security.exporter(meeting.client.transport, label)
            assert len(value) == 32
            seen.add(value)
    assert len(seen) == 6


def test_somebody_elses_key_ends_the_handshake():
    meeting = Meeting(TLSSecurity(MALLORY), TLSSecurity(ALICE), identity(BOB))
    assert not meeting.client.done
    assert not meeting.server.done
    assert meeting.client.lost is not None
    assert meeting.server.lost is not None


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for():
    meeting = Meeting(TLSSecurity(BOB), TLSSecurity(None), identity(BOB))
    assert not meeting.server.done
    assert meeting.server.lost is not None
    assert meeting.client.lost is not None
    assert meeting.client.received == b""


def test_a_client_without_a_certificate_is_welcome_where_none_is_asked_for():
    meeting = Meeting(TLSSecurity(BOB), TLSSecurity(None), identity(BOB), ask_peer=False)
    assert meeting.server.done
    assert meeting.client.done
    assert meeting.server_security.peer_identity(meeting.server.transport) is None


def test_a_certificate_of_another_kind_of_key_is_refused(monkeypatch):
    def make(_):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        return key, builder.not_valid_after(datetime(9999, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())

    with monkeypatch.context() as patched:
        patched.setattr(security_module, "make_certificate", make)
        stranger = TLSSecurity(ALICE)
    meeting = Meeting(TLSSecurity(BOB), stranger, identity(BOB))
    assert not meeting.server.done
    assert meeting.server.lost is not None


def test_a_copied_certificate_without_its_key_is_refused(monkeypatch):
    """Mallory shows Alice's certificate: OpenSSL will not even load it beside another key."""
    monkeypatch.setattr(
        security_module,
        "make_certificate",
        lambda key, make=security_module.make_certificate: (make(MALLORY)[0], make(ALICE)[1]),
    )
    with pytest.raises(SSL.Error):
        TLSSecurity(MALLORY).client(Ends(), identity(BOB))


def test_older_versions_of_tls_are_refused(monkeypatch):
    client = TLSSecurity(ALICE)

    def old(verify):
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        return context

    monkeypatch.setattr(client, "new_context", old)
    meeting = Meeting(TLSSecurity(BOB), client, identity(BOB), ask_peer=False)
    assert not meeting.client.done
    assert not meeting.server.done
    assert meeting.server.lost is not None


def test_a_session_is_not_resumed(monkeypatch):
    """A client with an earlier session shows its certificate again, and so does the server."""
    looked_at = []
    real = security_module.verify_certificate
    monkeypatch.setattr(
        security_module, "verify_certificate", lambda *arguments: looked_at.append(arguments[0]) or real(*arguments)
    )
    clock = FakeClock()
    network = MemoryNetwork(clock)
    servers, clients = Ends(), Ends()
    network.host("server", "10.0.0.1").listenTCP(1, TLSSecurity(BOB).server(servers, True))
    wrapped = TLSSecurity(ALICE).client(clients, identity(BOB))
    network.host("client", "10.0.0.2").connectTCP("10.0.0.1", 1, wrapped)
    clock.advance(1)
    session = clients.end.transport.getHandle().get_session()
    once = list(looked_at)
    assert set(once) == {None, identity(BOB)}
    create = security_module.ConnectionCreator.clientConnectionForTLS

    def with_session(creator, tls):
        connection = create(creator, tls)
        connection.set_session(session)
        return connection

    monkeypatch.setattr(security_module.ConnectionCreator, "clientConnectionForTLS", with_session)
    servers.end, clients.end = End(), End()
    network.host("client", "10.0.0.2").connectTCP("10.0.0.1", 1, wrapped)
    clock.advance(1)
    assert clients.end.done
    assert servers.end.done
    assert looked_at == once * 2


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=5), st.booleans())
def test_garbage_never_raises(chunks, like_tls):
    clock = FakeClock()
    network = MemoryNetwork(clock)
    servers = Ends()
    network.host("server", "10.0.0.1").listenTCP(1, TLSSecurity(BOB).server(servers, True))
    raw = Ends()
    raw.end.done = True  # it gets an alert without a handshake
    network.host("client", "10.0.0.2").connectTCP("10.0.0.1", 1, raw)
    clock.advance(0.01)
    for chunk in chunks:
        data = b"\x16\x03\x01" + len(chunk).to_bytes(2, "big") + chunk if like_tls else chunk
        raw.end.transport.write(data)
        clock.advance(0.01)
    assert not servers.end.done


def test_a_certificate_is_the_same_each_time():
    first, second = (security_module.make_certificate(ALICE)[1] for _ in range(2))
    assert first == second
