"""Resolves names, and tells public addresses from others: for services that connect to targets of clients' choice."""

import ipaddress
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_ADDRESSES: Final = 16
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Not public, although `is_global` says so: protocol assignments (a cloud's metadata), Azure's, documentation.
# The anycast address of 6to4 relays (RFC 7526), NAT64 of one's own (RFC 8215), segment routing (RFC 9602).
_NOT_PUBLIC: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("192.0.0.0/24", "168.63.129.16/32", "192.88.99.0/24"),
            *("3fff::/20", "64:ff9b:1::/48", "5f00::/16", "2002:c058:6300::/40"),
        ),
    )
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # the upper half of an interface identifier (RFC 5214)


def embedded(ip: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4, NAT64 or ISATAP.

    RFC 4291, 3056, 6052, 5214.
    """
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if int(ip) >> 32 & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public internet. An IPv4 address inside an IPv6 one is checked too.

    Not: private, loopback, link-local (the metadata addresses of clouds among them), shared, multicast, reserved.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.teredo is not None or ip.scope_id is not None or ip.is_site_local):
        return False
    if any(ip in network for network in _NOT_PUBLIC if network.version == ip.version):
        return False
    inner = embedded(ip)
    if inner is not None and not is_public(str(inner)):
        return False
    if inner is not None and ip.version == 6 and (ip.ipv4_mapped is not None or ip in _NAT64):
        return True
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_numeric(host: str) -> bool:
    """Whether a host is a numeric address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def leads_to_itself(transport: Any) -> bool:
    """Whether a connection ends at this machine, under whatever address: its programs may trust local connections."""
    return bool(transport.getHost().host == transport.getPeer().host)


def resolve(reactor: Any, host: str) -> "Deferred[list[str]]":
    """The numeric addresses of a host, at most 16; for a numeric host, itself. An empty list for an unknown name."""
    receiver = _Receiver()
    reactor.nameResolver.resolveHostName(receiver, host, 0)
    return receiver.done


@implementer(IResolutionReceiver)
class _Receiver:
    def __init__(self) -> None:
        self._addresses: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """Resolution has begun; nothing to do yet."""

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)) and len(self._addresses) < _MOST_ADDRESSES:
            self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(self._addresses)
