"""Ports on 127.0.0.1 for a whole network: the usual ones where they are free, others where they are not."""

import socket
from collections.abc import Iterable

from nymtw.errors import ListenError

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
            port = ephemeral()
            if port not in self._given:
                self._given.add(port)
                return port
        raise ListenError(f"no free port on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now, the way Twisted does it."""
    with socket.socket() as probe:
        # As servers do it: a connection of a minute ago that lingers in TIME_WAIT does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def ephemeral() -> int:
    """A port of the loopback address that the system chooses, and that is free."""
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, 0))
        except OSError as error:
            raise ListenError(f"no free port on {LOOPBACK}: {error.strerror}") from None
        return int(probe.getsockname()[1])
