"""Which nodes may belong to one operator: those of one network prefix, and those that say so. Pure.

A /24 of IPv4 and a /48 of IPv6 are what one customer gets, and one attacker. Addresses that are not public (loopback,
private, documentation) tell nothing: there all nodes are somebody's own.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from nymtw.topology.document import NodeRecord

IPV4_BITS: Final = 24
IPV6_BITS: Final = 48


@lru_cache(maxsize=32_768)
def prefix_of(host: str) -> str:
    """The /24 or /48 of a public address; "" for another address. A host name with a dot stands for itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() if "." in host else ""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if not address.is_global:
        return ""
    bits = IPV4_BITS if address.version == 4 else IPV6_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


def has_kin(nodes: Iterable[NodeRecord]) -> bool:
    """Whether two of these nodes are kin."""
    nodes = list(nodes)
    prefixes = [prefix for node in nodes if (prefix := prefix_of(node.host))]
    families = [node.family for node in nodes if node.family]
    return len(set(prefixes)) < len(prefixes) or len(set(families)) < len(families)
