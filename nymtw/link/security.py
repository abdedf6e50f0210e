"""The identity of a peer: TLS 1.3, each node's certificate self-signed with its identity key and compared with it.

`ILinkSecurity` is the extension point: a network in memory replaces `TLSSecurity` by a stand-in without TLS.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey
from OpenSSL import SSL

from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import Interface, implementer

EXPORTER_LENGTH: Final = 32


class ILinkSecurity(Interface):
    """Wraps factories so that the two ends of a connection know each other.

    A protocol made by a wrapped factory provides `twisted.internet.interfaces.IHandshakeListener`: it receives no
    bytes, and may trust nothing, before `handshakeCompleted`. A wrapped client factory passes on `startedConnecting`,
    `clientConnectionFailed` and `clientConnectionLost`.
    """

    def server(factory: Any, ask_peer: bool) -> Any:
        """A factory to listen with. `ask_peer`: the connecting node must prove an identity key."""

    def client(factory: Any, expected_identity: bytes) -> Any:
        """A factory to connect with; the handshake fails where the other end is not `expected_identity` (32 bytes)."""

    def peer_identity(transport: Any) -> bytes | None:
        """The identity (32 bytes) that the other end has proved; None where it was not asked."""

    def exporter(transport: Any, label: bytes) -> bytes:
        """32 bytes that only the two ends of this connection know (RFC 8446, section 7.5)."""


class _UnbufferedTLSFactory(TLSMemoryBIOFactory):
    """Links join their writes themselves: without Twisted's aggregation no timer is made for each write."""

    protocol = TLSMemoryBIOProtocol


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class ConnectionCreator:
    """Makes the OpenSSL object of each connection from one context."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    clientConnectionForTLS = serverConnectionForTLS


@implementer(ILinkSecurity)
class TLSSecurity:
    """TLS 1.3 by pyOpenSSL. `signing_key` is the node's identity; None for a client, which shows no certificate."""

    def __init__(self, signing_key: SigningKey | None) -> None:
        self._key_and_certificate = None if signing_key is None else make_certificate(signing_key)

    def server(self, factory: Any, ask_peer: bool) -> IProtocolFactory:
        return _wrap(self.new_context(partial(verify_certificate, None) if ask_peer else None), False, factory)

    def client(self, factory: Any, expected_identity: bytes) -> IProtocolFactory:
        return _wrap(self.new_context(partial(verify_certificate, expected_identity)), True, factory)

    def peer_identity(self, transport: Any) -> bytes | None:
        return _identity(transport.getPeerCertificate())

    def exporter(self, transport: Any, label: bytes) -> bytes:
        return bytes(transport.getHandle().export_keying_material(label, EXPORTER_LENGTH))

    def new_context(self, verify: Callable[..., bool] | None) -> SSL.Context:
        """What the connections of one factory have in common; `verify` is None where no certificate is asked for."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        # No resumption: every connection proves its keys anew.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if self._key_and_certificate is not None:
            key, certificate = self._key_and_certificate
            context.use_certificate(certificate)
            context.use_privatekey(key)
        if verify is not None:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return context


def _wrap(context: SSL.Context, is_client: bool, factory: Any) -> IProtocolFactory:
    # The clock serves the aggregation of writes alone, which is not used here.
    clock = cast(IReactorTime, object())
    return cast(IProtocolFactory, _UnbufferedTLSFactory(ConnectionCreator(context), is_client, factory, clock))


def verify_certificate(
    expected: bytes | None, connection: SSL.Connection, certificate: Any, errno: int, depth: int, ok: int
) -> bool:
    """Only the key counts: the peer proves in the handshake that it holds it, and names and dates say nothing."""
    identity = _identity(certificate)
    return depth == 0 and identity is not None and (expected is None or identity == expected)


def _identity(certificate: Any) -> bytes | None:
    """The raw Ed25519 key of a pyOpenSSL certificate, None for any other kind of key or a broken certificate."""
    if certificate is None:
        return None
    try:
        key = certificate.to_cryptography().public_key()
    except Exception:  # a hostile certificate: `cryptography` raises many kinds of error, none of which matters here
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def make_certificate(signing_key: SigningKey) -> tuple[Ed25519PrivateKey, x509.Certificate]:
    """A certificate without a name and, as RFC 5280 section 4.1.2.5 writes it, without an end."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(signing_key))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nymtw")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .sign(key, None)
    )
    return key, certificate
