"""The place of a node: its address and its layer."""

import fcntl
import ipaddress
import socket
import struct
import sys
from random import Random

from nymtw.errors import ConfigError
from nymtw.topology.document import LAYERS, Topology

_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


def default_host() -> str:
    """The first IPv4 address of this machine that is not loopback; 127.0.0.1 if it has no other."""
    if sys.platform == "linux":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                try:
                    answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                except OSError:
                    continue
                address = ipaddress.IPv4Address(answer[20:24])
                if not address.is_loopback:
                    return str(address)
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: this asks for the address that packets to the internet would leave from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def check_host(host: str) -> str:
    """`host`, an IPv4 or IPv6 address, in its standard form. Raises `ConfigError` for anything else."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ConfigError(f"--host: {host!r:.80} is not an IP address") from None


def is_unspecified(host: str) -> bool:
    """Whether this address stands for every one of this machine: 0.0.0.0 or ::."""
    return ipaddress.ip_address(host).is_unspecified


def hosts(host: str, announced: str) -> tuple[str, str]:
    """The address to listen on, and the one to announce. Raises `ConfigError`.

    `host`: what is configured, "" for the first address of this machine. `announced`: what is to be announced instead;
    "" is `host`, or the first address of this machine where `host` stands for all of them.
    """
    bound = check_host(host or default_host())
    if announced:
        told = check_host(announced)
        if is_unspecified(told):
            raise ConfigError(f"--announced-host: {announced!r:.80} is no address that others can reach")
        return bound, told
    return bound, default_host() if is_unspecified(bound) else bound


def thinnest_layer(topology: Topology, random: Random) -> int:
    """The layer (1 to 3) with the fewest mixnodes; one of them by chance if there are several."""
    fewest = min(len(topology.mixnodes(layer)) for layer in LAYERS)
    return random.choice([layer for layer in LAYERS if len(topology.mixnodes(layer)) == fewest])
