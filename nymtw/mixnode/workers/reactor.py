"""The reactor of a worker: collects packets for a moment, and handles them in one turn.

In a mostly idle process one turn costs as much as several packets, and N workers would take N times as many turns. So
packets may leave up to `GAP` late, as they may anyway when the operating system has other work.
"""

import time
from typing import Any, Final

GAP: Final = 0.003  # the least seconds from the beginning of one turn to the beginning of the next


def install() -> Any:
    """Install the reactor and return it. Call it before any import of the reactor. Without epoll: the usual reactor."""
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
