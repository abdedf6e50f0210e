"""Ports on 127.0.0.1 for a whole network: the usual ones where they are free, others where they are not."""

from collections.abc import Iterable

from nymtw.errors import ListenError
from nymtw.node import free_ports

LOOPBACK = "127.0.0.1"
_TRIES = 1000


class PortPicker:
    """Picks free ports, each once; without `usual` never the usual ones, which others may be about to take."""

    def __init__(self, usual: bool = True) -> None:
        self._given: set[int] = set()
        self._usual = usual

    def pick(self, usual: int, count: int = 1) -> tuple[int, ...]:
        """`count` ports: `usual` and those that follow it if all of them are free, else any that are.

        Raises `ListenError` if the machine has no free ports.
        """
        wanted = range(usual, usual + count)
        if self._usual and not self._given.intersection(wanted) and all(map(is_free, wanted)):
            chosen: Iterable[int] = wanted
        else:
            chosen = [self._any() for _ in range(count)]
        self._given.update(chosen)
        return tuple(chosen)

    def _any(self) -> int:
        for _ in range(_TRIES):
            port = free_ports.any_port(LOOPBACK)
            if port not in self._given:
                self._given.add(port)
                return port
        raise ListenError(f"no free port on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    return free_ports.is_free(LOOPBACK, port)
