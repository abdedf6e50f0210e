"""The policy of a web proxy: allowed hosts and ports, and a check of the addresses that a name resolves to.

The connection goes to exactly the address that was checked, because resolving a name twice may give two answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from nymtw.errors import NymtwError
from nymtw.provider.services.addresses import is_numeric, is_public, leads_to_itself, resolve

CONNECT_TIMEOUT: Final = 20.0
PRIVATE: Final = "this web proxy does not allow private addresses"


class PolicyError(NymtwError):
    """The web proxy's policy forbids this request."""


@dataclass(frozen=True, slots=True)
class WebPolicy:
    """`hosts`: allowed names, "*.example.org" for all below a name; empty means all. `ports`: likewise."""

    hosts: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset({80, 443})
    private: bool = False

    def check_name(self, host: str, port: int) -> None:
        """Raises `PolicyError`."""
        if self.ports and port not in self.ports:
            raise PolicyError(f"this web proxy does not allow port {port}")
        name = host.lower().rstrip(".")
        if self.hosts and not any(_matches(name, pattern) for pattern in self.hosts):
            raise PolicyError("this web proxy does not allow this host")

    def choose(self, addresses: Sequence[str], named: bool = False) -> str:
        """The first allowed address among those of a host, which is `named` or numeric. Raises `PolicyError`.

        A name that leads inside is a name without an address: nobody learns which names the operator has there.
        """
        if not addresses:
            raise PolicyError("this host has no address")
        for address in addresses:
            if self.private or is_public(address):
                return address
        raise PolicyError("this host has no address" if named else PRIVATE)


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern


@implementer(IAgentEndpointFactory)
class CheckedEndpoints:
    """Endpoints for an `Agent` that check name and address each time, redirects included.

    `trust_root`: the authorities for certificates; None for the platform's.
    """

    def __init__(self, reactor: Any, policy: WebPolicy, trust_root: Any = None) -> None:
        self._reactor, self._policy, self._trust_root = reactor, policy, trust_root

    def endpointForURI(self, uri: URI) -> Any:
        """An endpoint for a URI of http or https. Raises `PolicyError`."""
        host = uri.host.decode("ascii").strip("[]")
        if uri.scheme not in (b"http", b"https"):
            raise PolicyError("this web proxy supports http and https only")
        self._policy.check_name(host, uri.port)
        # With https, service-identity verifies the certificate against the requested name.
        tls = optionsForClientTLS(host, trustRoot=self._trust_root) if uri.scheme == b"https" else None
        return _CheckedEndpoint(self._reactor, self._policy, host, uri.port, tls)


@implementer(IStreamClientEndpoint)
class _CheckedEndpoint:
    def __init__(self, reactor: Any, policy: WebPolicy, host: str, port: int, tls: Any) -> None:
        """`tls`: creator of the client's end of TLS, or None."""
        self._reactor, self._policy, self._host, self._port, self._tls = reactor, policy, host, port, tls

    def connect(self, protocolFactory: Any) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        address = self._policy.choose(await resolve(self._reactor, self._host), not is_numeric(self._host))
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(self._reactor, address, self._port, timeout=CONNECT_TIMEOUT)
        if self._tls is None:
            return self._outside(await endpoint.connect(factory))
        # As in `wrapClientTLS`, but with our clock.
        wrapped: Any = await endpoint.connect(TLSMemoryBIOFactory(self._tls, True, factory, clock=self._reactor))
        return self._outside(wrapped).wrappedProtocol

    def _outside(self, protocol: Any) -> Any:
        """The protocol, unless it has reached this machine under its public address. Raises `PolicyError`."""
        if not self._policy.private and leads_to_itself(protocol.transport):
            protocol.transport.abortConnection()
            raise PolicyError(PRIVATE)
        return protocol
