"""Where a web proxy may go: hosts and ports by name, and addresses after the name has been resolved.

The connection goes to the very address that was checked: a name that is resolved twice may have two answers.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from nymtw.errors import NymtwError

CONNECT_TIMEOUT: Final = 20.0
_MOST_ADDRESSES: Final = 16
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class PolicyError(NymtwError):
    """This web proxy does not go there."""


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet, whatever it is wrapped in.

    Not: private, loopback, link-local (the metadata addresses of clouds among them), shared, multicast, reserved.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.teredo is not None or ip.scope_id is not None:
            return False
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


@dataclass(frozen=True, slots=True)
class WebPolicy:
    """`hosts`: names that may be asked, "*.example.org" for all below one; none means all. `ports` likewise."""

    hosts: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset({80, 443})
    private: bool = False

    def check_name(self, host: str, port: int) -> None:
        """Raises `PolicyError`."""
        if self.ports and port not in self.ports:
            raise PolicyError(f"this web proxy does not go to port {port}")
        name = host.lower().rstrip(".")
        if self.hosts and not any(_matches(name, pattern) for pattern in self.hosts):
            raise PolicyError("this web proxy does not go to that host")

    def choose(self, addresses: Sequence[str]) -> str:
        """The first of the addresses of a host that may be connected to. Raises `PolicyError`."""
        if not addresses:
            raise PolicyError("this host has no address")
        for address in addresses:
            if self.private or is_public(address):
                return address
        raise PolicyError("this web proxy does not go to private addresses")


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern


@implementer(IAgentEndpointFactory)
class CheckedEndpoints:
    """Where an `Agent` connects: name and address are checked each time, redirects included.

    `trust_root` is what certificates are verified against; without one, the platform's.
    """

    def __init__(self, reactor: Any, policy: WebPolicy, trust_root: Any = None) -> None:
        self._reactor, self._policy, self._trust_root = reactor, policy, trust_root

    def endpointForURI(self, uri: URI) -> Any:
        """An endpoint for a URI of http or https. Raises `PolicyError`."""
        host = uri.host.decode("ascii").strip("[]")
        if uri.scheme not in (b"http", b"https"):
            raise PolicyError("this web proxy speaks http and https")
        self._policy.check_name(host, uri.port)
        endpoint: Any = _CheckedEndpoint(self._reactor, self._policy, host, uri.port)
        if uri.scheme == b"https":
            # Verified by service-identity, against the name that was asked for.
            endpoint = wrapClientTLS(optionsForClientTLS(host, trustRoot=self._trust_root), endpoint)
        return endpoint


@implementer(IStreamClientEndpoint)
class _CheckedEndpoint:
    def __init__(self, reactor: Any, policy: WebPolicy, host: str, port: int) -> None:
        self._reactor, self._policy, self._host, self._port = reactor, policy, host, port

    def connect(self, protocolFactory: Any) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        address = self._policy.choose(await _resolve(self._reactor, self._host))
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        return await kind(self._reactor, address, self._port, timeout=CONNECT_TIMEOUT).connect(factory)


def _resolve(reactor: Any, host: str) -> "Deferred[list[str]]":
    """The numeric addresses of a host; of a numeric one, itself."""
    receiver = _Receiver()
    reactor.nameResolver.resolveHostName(receiver, host, 0)
    return receiver.done


@implementer(IResolutionReceiver)
class _Receiver:
    def __init__(self) -> None:
        self._addresses: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)) and len(self._addresses) < _MOST_ADDRESSES:
            self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(self._addresses)
