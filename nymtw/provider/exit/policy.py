"""Where an exit connects to: a list of rules in the syntax of Tor's ExitPolicy, which operators know.

    reject *:25                    # no mail
    accept *:80,accept *:443
    reject6 [2001:db8::]/32:*
    accept 198.51.100.0/24:1000-2000
    reject *:*

Addresses are IPv4, or IPv6 in brackets, with a prefix length or (IPv4) a mask; `*`, `*4`, `*6` and `private` too.
Without a port a rule is for all. The first rule that matches decides. As in Tor, a policy that has no rule for
everything is put in front of the default one.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from nymtw.errors import ConfigError
from nymtw.provider.services.addresses import IPAddress, embedded

# Mail, file sharing within a house, news, and what fills an operator's letter box with complaints.
DEFAULT_POLICY: Final = """\
reject *:25
reject *:119
reject *:135-139
reject *:445
reject *:563
reject *:1214
reject *:4661-4666
reject *:6346-6429
reject *:6699
reject *:6881-6999
accept *:*
"""
_EVERYTHING: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_PRIVATE4: Final = ("0.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12")
_PRIVATE6: Final = ("::/8", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8")
_PRIVATE: Final = tuple(map(ipaddress.ip_network, _PRIVATE4 + _PRIVATE6))
_RULE: Final = re.compile(
    r"(accept6?|reject6?)\s+(\*[46]?|private|\[[^\]]*\](?:/\d+)?|[\d.]+(?:/[\d.]+)?)(?::(\S+))?", re.I
)
_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rule:
    """Whether connections to these networks and ports, both ends included, are accepted."""

    accept: bool
    networks: tuple[_Network, ...]
    first: int = 1
    last: int = 65535

    @property
    def is_for_all_addresses(self) -> bool:
        """Whether it does not look at the address."""
        return self.networks == _EVERYTHING

    def matches(self, ip: IPAddress, port: int) -> bool:
        """Whether this rule is for that address and port."""
        return self.first <= port <= self.last and any(ip in network for network in self.networks)


class ExitPolicy:
    """Rules, of which the first that matches decides; what none matches is rejected."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules

    @classmethod
    def parse(cls, text: str, name: str = "the exit policy") -> "ExitPolicy":
        """The policy in a file of that name. Raises `ConfigError`, which names file and line, for a wrong line."""
        rules: list[Rule] = []
        for number, line in zip(count(1), text.splitlines()):
            try:
                rules += _rules(line)
            except ValueError as error:
                raise ConfigError(f"{name}, line {number}: {error}") from None
        if not any(rule.is_for_all_addresses and (rule.first, rule.last) == (1, 65535) for rule in rules):
            rules += [rule for line in DEFAULT_POLICY.splitlines() for rule in _rules(line)]
        return cls(tuple(rules))

    @classmethod
    def load(cls, path: str) -> "ExitPolicy":
        """The policy in a file; the default one for "". Raises `ConfigError`."""
        if not path:
            return cls.parse("")
        try:
            return cls.parse(Path(path).read_text("utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the exit policy cannot be read: {error}") from None

    def accepts(self, address: str, port: int) -> bool:
        """Whether to connect to a numeric address. One that leads to an IPv4 address has to be accepted as both."""
        ip = ipaddress.ip_address(address)
        inner = embedded(ip)
        if inner is not None and not self._accepts(inner, port):
            return False
        # A mapped address is the IPv4 address, and nothing besides.
        return (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None) or self._accepts(ip, port)

    def accepts_some(self, port: int) -> bool:
        """Whether there is an address at all that could be connected to at this port: else no name need be resolved."""
        for rule in self.rules:
            if rule.first <= port <= rule.last:
                if rule.accept:
                    return True
                if rule.is_for_all_addresses:
                    return False
        return False

    def _accepts(self, ip: IPAddress, port: int) -> bool:
        return next((rule.accept for rule in self.rules if rule.matches(ip, port)), False)


def _rules(line: str) -> Iterator[Rule]:
    """The rules of one line, with or without `ExitPolicy` in front. Raises `ValueError`."""
    words = line.split("#")[0].strip()
    words = re.sub(r"^ExitPolicy\s+", "", words, flags=re.I)
    for word in words.split(",") if words else ():
        yield _rule(word.strip())


def _rule(text: str) -> Rule:
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r:.80} is not 'accept' or 'reject' (or accept6, reject6), an address and a port")
    action, address, ports = found[1].lower(), found[2].lower(), found[3] or "*"
    first, last = _ports(ports)
    networks = _networks(address)
    if action.endswith("6"):
        if any(network.version == 4 for network in networks) and address not in ("*", "private"):
            raise ValueError(f"{found[1]} is for IPv6, and {found[2]} is not")
        if address == "*":
            networks = _EVERYTHING[1:]
    return Rule(action.startswith("accept"), networks, first, last)


def _networks(text: str) -> tuple[_Network, ...]:
    if text == "private":
        return _PRIVATE
    if text.startswith("*"):
        return {"*": _EVERYTHING, "*4": _EVERYTHING[:1], "*6": _EVERYTHING[1:]}[text]
    try:
        return (ipaddress.ip_network(text.replace("[", "").replace("]", ""), strict=False),)
    except ValueError:
        raise ValueError(f"{text!r:.80} is not an address or a network") from None


def _ports(text: str) -> tuple[int, int]:
    if text == "*":
        return 1, 65535
    found = _PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{text!r:.80} is not a port, a range of ports, or *")
    return first, last
