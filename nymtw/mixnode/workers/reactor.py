"""The reactor of a worker: it lets packets come together for a moment, and does them in one turn.

A turn costs a process that is mostly idle as much as several packets, and N workers would take N times as many. So
packets may leave up to `GAP` later than they are due, as they may anyway where the operating system has other work.
"""

import time
from typing import Any, Final

GAP: Final = 0.003  # seconds from the beginning of one turn to that of the next, at least


def install() -> Any:
    """Install it, before anybody imports the reactor, and return it; without epoll it is the usual one."""
    try:
        from twisted.internet.epollreactor import EPollReactor
    except ImportError:
        from twisted.internet import reactor as usual

        return usual
    from twisted.internet.main import installReactor

    class UnhurriedReactor(EPollReactor):
        _turn = 0.0

        def doPoll(self, timeout: float | None) -> None:
            left = self._turn + GAP - time.monotonic()
            if left > 0:
                time.sleep(left)
                if timeout is not None:
                    timeout = max(0.0, timeout - left)
            self._turn = time.monotonic()
            super().doPoll(timeout)

        doIteration = doPoll

    reactor = UnhurriedReactor()
    installReactor(reactor)
    return reactor
