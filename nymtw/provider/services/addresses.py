"""Where a name leads, and whether that is the public internet: for services that connect to where clients ask."""

import ipaddress
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_ADDRESSES: Final = 16
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# What `is_global` calls public and is not: protocol assignments (a cloud's metadata), Azure's, documentation.
_NOT_PUBLIC: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32", "3fff::/20")))


def embedded(ip: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4 or NAT64 (RFC 4291, 3056, 6052)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet, whatever it is wrapped in.

    Not: private, loopback, link-local (the metadata addresses of clouds among them), shared, multicast, reserved.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.teredo is not None or ip.scope_id is not None or ip.is_site_local):
        return False
    inner = embedded(ip)
    if inner is not None:
        return is_public(str(inner))
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(reactor: Any, host: str) -> "Deferred[list[str]]":
    """The numeric addresses of a host, at most 16; of a numeric one, itself. None for a name that is not known."""
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
