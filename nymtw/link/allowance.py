"""Limits of events from one address: each empties by itself."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

MOST_ORIGINS: Final = 100_000  # remembered at once, some 15 MB


class Allowance:
    """A limit of events from one address: `most` at once, and as many again within `seconds`, evenly.

    It empties by itself: each event is forgotten `seconds / most` after the one before it. `clock` has `seconds()`. An
    address is an IAddress, a text, or None for everybody together.
    """

    def __init__(self, clock: Any, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # events that count, and when they did

    @property
    def remembered(self) -> int:
        """The number of addresses whose events are counted."""
        return len(self._levels)

    def take(self, address: Any) -> bool:
        """Whether this address may once more; counts it if so."""
        at = origin(address)
        now = self._clock.seconds()
        level = self._level(at, now)
        if level > self._most - 1:
            return False
        self._levels[at] = (level + 1, now)
        self._levels.move_to_end(at)
        # One time for all: by a clock that goes on, what was just counted could be forgotten too.
        while len(self._levels) > MOST_ORIGINS or self._level(next(iter(self._levels)), now) <= 0:
            self._levels.popitem(last=False)
        return True

    def is_used_up(self, address: Any) -> bool:
        """Whether this address may not do it once more; counts nothing."""
        return self._level(origin(address), self._clock.seconds()) > self._most - 1

    def _level(self, at: str, now: float) -> float:
        level, when = self._levels.get(at, (0.0, 0.0))
        return max(0.0, level - (now - when) * self._most / self._seconds)


def origin(address: Any) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 /64."""
    host = address if isinstance(address, str) else str(getattr(address, "host", ""))
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return parsed.exploded[:19]  # the first 64 bits
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
