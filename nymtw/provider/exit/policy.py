"""The exit policy: the targets that an exit connects to, as rules in the syntax of Tor's ExitPolicy.

    reject *:25                    # no mail
    accept *:80,accept *:443
    reject6 [2001:db8::]/32:*
    accept 198.51.100.0/24:1000-2000
    reject *:*

An address is IPv4, or IPv6 in brackets, with a prefix length or (IPv4) a mask, or one of `*`, `*4`, `*6`, `private`.
A rule without a port is for all ports. The first matching rule decides. As in Tor, the default policy follows a policy
that has no rule for all addresses.
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

# Mail, local file sharing, news, and ports that bring an operator many complaints.
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
    """Accepts or rejects connections to networks and ports (both ends of the range included)."""

    accept: bool
    networks: tuple[_Network, ...]
    first: int = 1
    last: int = 65535

    @property
    def is_for_all_addresses(self) -> bool:
        """Whether the rule matches every address."""
        return self.networks == _EVERYTHING

    def matches(self, ip: IPAddress, port: int) -> bool:
        """Whether the rule matches this address and port."""
        return self.first <= port <= self.last and any(ip in network for network in self.networks)


class ExitPolicy:
    """A list of rules. The first matching rule decides; without one, the connection is rejected."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules

    @classmethod
    def parse(cls, text: str, name: str = "the exit policy") -> "ExitPolicy":
        """Parse the text of a policy. Raises `ConfigError` with `name` and line number for a wrong line."""
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
        """Read the policy from a file, or return the default policy for "". Raises `ConfigError`."""
        if not path:
            return cls.parse("")
        try:
            return cls.parse(Path(path).read_text("utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the exit policy cannot be read: {error}") from None

    def accepts(self, address: str, port: int) -> bool:
        """Whether to connect to a numeric address. An IPv6 address that leads to IPv4 must be accepted as both."""
        ip = ipaddress.ip_address(address)
        inner = embedded(ip)
        if inner is not None and not self._accepts(inner, port):
            return False
        # A mapped address is the IPv4 address, and nothing besides.
        return (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None) or self._accepts(ip, port)

    def accepts_some(self, port: int) -> bool:
        """Whether any address is accepted at this port. If not, resolving a name is pointless."""
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
            raise ValueError(f"{found[1]} is for IPv6, but {found[2]} is not IPv6")
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
