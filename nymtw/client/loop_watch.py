"""Judges the client's own loops, says what it finds, and does what the configuration asks for."""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from nymtw.client.sending.cover import CoverLedger
from nymtw.interfaces import ICoverPolicy
from nymtw.mixing.loop_loss import BLOCKED, GO_ON, GRACE, LATE, PAUSE, WARN, ByChance, LoopLoss, LoopTimes

CHANGE_EDGE: Final = "change-edge"
REACTIONS: Final = (WARN, PAUSE, CHANGE_EDGE)
LOOK_INTERVAL: Final = 0.25  # seconds
MOMENT: Final = 3.0  # seconds: at 5 loops a second one without any is chance once in three million times
LONGEST_GAP: Final = 6.0  # of the mean time between two pulls: one in four hundred is longer
MOSTLY: Final = 0.5  # from this share of late or lost loops on it is the edge: a mixnode is on few of the routes
WINDOWS_TO_LEAVE: Final = 3  # in a row, until another edge is chosen


@implementer(ICoverPolicy)
class ClientPolicy(ByChance):
    """What a client does: "warn", "pause" (no real packet leaves, cover does), "change-edge"."""


class LoopWatch:
    """Looks four times a second while the client is logged in.

    `hold(held)` stops real packets, or lets them go on; `leave()` asks for another edge. Whatever is done, `trouble`
    says what was found, and `alarms` how often.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        cover: CoverLedger,
        policy: Any,
        *,
        hold: Callable[[bool], None],
        leave: Callable[[], None],
    ) -> None:
        """`policy`: an `ICoverPolicy` that answers with one of `REACTIONS`, or "go-on"."""
        self._clock: Any = clock
        self._policy, self._hold, self._leave = policy, hold, leave
        self._timer: IDelayedCall | None = None
        self._found: dict[str, str] = {}
        self._actions: dict[str, str] = {}
        self._bad_windows = 0
        self.times = LoopTimes(MOMENT)
        cover.measure(self.times)
        self.alarms = {LATE: 0, BLOCKED: 0}

    @property
    def trouble(self) -> str:
        """What is wrong, in a line; empty where nothing is."""
        return self._found.get(BLOCKED) or self._found.get(LATE) or ""

    def pulling(self, rate: float) -> None:
        """Mail is pulled so many times a second, as a Poisson process; 0: it is pushed. Loops wait for that."""
        self.times.grace = GRACE + (LONGEST_GAP / rate if rate > 0 else 0.0)

    def start(self) -> None:
        """Logged in."""
        self.times.reset()
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK_INTERVAL, self._look)

    def stop(self) -> None:
        """The link is gone; what was found stays until loops have been judged again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._bad_windows = 0

    def _look(self) -> None:
        self._timer = self._clock.callLater(LOOK_INTERVAL, self._look)
        for loss in self.times.look(self._clock.seconds()):
            self._decide(loss)

    def _decide(self, loss: LoopLoss) -> None:
        action = self._policy.decide(loss)
        before = self._found.pop(loss.kind, "")
        self._actions[loss.kind] = action
        if action != GO_ON:
            self.alarms[loss.kind] += 1
            found = self._found[loss.kind] = _describe(loss)
            if not before:
                self.log.warn("{found}", found=found)
        elif before:
            self.log.info("Loops come back in time again")
        self._hold(PAUSE in self._actions.values())
        if loss.kind == LATE:
            self._bad_windows = self._bad_windows + 1 if action == CHANGE_EDGE and loss.ratio > MOSTLY else 0
            if self._bad_windows >= WINDOWS_TO_LEAVE:
                self._bad_windows = 0
                self._leave()


def _describe(loss: LoopLoss) -> str:
    if loss.kind == BLOCKED:
        return f"no loop came back within {loss.seconds:g} s: this client's packets are held back or dropped"
    where = "by the provider or gateway, or on the way to it" if loss.ratio > MOSTLY else "somewhere on their way"
    return (
        f"{loss.lost} of {loss.sent} loops did not come back in time ({loss.ratio:.0%}): "
        f"packets are held back or dropped {where}"
    )
