"""A thread for blocking calls, so that the reactor never waits for them."""

import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

# Seconds for which the reactor keeps the interpreter while this thread wants it. With Python's default of 5 ms,
# a transaction of six round trips waits for 30 ms.
_SWITCH: Final = 0.0005


class WorkerThread:
    """One thread. Call it with a function that blocks: it returns a Deferred, which fires in the reactor's thread.

    It is a daemon thread: a database that does not answer cannot keep the process alive.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        sys.setswitchinterval(min(_SWITCH, sys.getswitchinterval()))
        self._reactor = reactor
        self._queue: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def __call__(self, call: Callable[[], Any]) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        self._queue.put((call, answer))
        return answer

    def stop(self) -> None:
        """End the thread after the calls that it already has."""
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            call, answer = job
            try:
                result = call()
            except Exception:
                result = Failure()
            self._reactor.callFromThread(answer.callback, result)
