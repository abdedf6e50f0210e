"""Loops that come back, come late or do not come back, and whether so many can by chance. Pure.

Three questions are asked: how many are lost, over minutes; how many are late, over seconds; and whether anything comes
back at all, in one moment or a few. An attack that holds all packets of others back for two seconds shows in the last.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from zope.interface import implementer

from nymtw.interfaces import ICoverPolicy

GO_ON: Final = "go-on"
WARN: Final = "warn"
SLOW_DOWN: Final = "slow-down"
PAUSE: Final = "pause"
ACTIONS: Final = (GO_ON, WARN, SLOW_DOWN, PAUSE)

NATURAL_LOSS: Final = 0.01
# Of windows without an attack, at most this share is taken for one: of those of ten minutes one in 19 years, of those
# of twenty seconds, 129,600 in thirty days, one in six years.
FALSE_ALARMS: Final = 1e-6
FALSE_LATE_ALARMS: Final = 1e-7
# Seconds that a loop is waited for beyond the delays drawn for it: a link gives up a packet after 10.
PATIENCE: Final = 30.0

LOSS: Final = "loss"  # a window of minutes: loops that did not come back
LATE: Final = "late"  # a window of seconds: loops that took longer than what was drawn, and `GRACE`
BLOCKED: Final = "blocked"  # a moment in which none of at least `FEWEST_DUE` came back

GRACE: Final = 0.5  # seconds beyond the drawn delays and what loops usually take
MOST_USUAL: Final = (
    1.0  # seconds that links and slots may usually take: an attacker who slows them gradually gets no further
)
LATE_WINDOW: Final = 20.0  # seconds
FEWEST_DUE: Final = 6  # at natural loss all of them are lost by chance once in 10^12 moments
_LEARN: Final = 0.02  # the weight of a loop in the running mean of what they usually take
_STALL: Final = 0.5  # seconds: a look that comes later than this was held up itself


@dataclass(frozen=True, slots=True)
class LoopLoss:
    """Of `sent` loops within one window of `seconds`, `returned` came back; in time, where the `kind` is not LOSS."""

    sent: int
    returned: int
    seconds: float
    kind: str = LOSS

    @property
    def lost(self) -> int:
        return self.sent - self.returned

    @property
    def ratio(self) -> float:
        """The share that was lost; 0 where none was sent."""
        return self.lost / self.sent if self.sent else 0.0


def tail(trials: int, hits: int, probability: float) -> float:
    """The probability of at least `hits` hits in `trials` trials: the binomial distribution, summed term by term."""
    if hits <= 0:
        return 1.0
    if hits > trials:
        return 0.0
    if hits <= trials * probability:  # the terms grow first: sum the others
        return 1.0 - tail(trials, trials - hits + 1, 1 - probability)
    odds = probability / (1 - probability)
    log_term = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    term = math.exp(log_term + hits * math.log(probability) + (trials - hits) * math.log1p(-probability))
    total = 0.0
    for hit in range(hits, trials + 1):
        total += term
        term *= (trials - hit) / (hit + 1) * odds
        if term < total * 1e-18:
            break
    return total


def is_chance(loss: LoopLoss, natural_loss: float = NATURAL_LOSS, false_alarms: float = FALSE_ALARMS) -> bool:
    """Whether so many loops are lost by chance in more than `false_alarms` of windows."""
    return tail(loss.sent, loss.lost, natural_loss) > false_alarms * (1 + 1e-9)  # for what rounding does


def fewest_alarming(sent: int) -> int:
    """The fewest lost loops of `sent` that are no chance any more; more than `sent` where no number is."""
    return next((lost for lost in range(sent + 1) if not is_chance(LoopLoss(sent, sent - lost, 0.0))), sent + 1)


@implementer(ICoverPolicy)
class ByChance:
    """Acts where so many loops are lost by chance in fewer than `false_alarms` of windows, at `natural_loss`."""

    def __init__(
        self, action: str = WARN, natural_loss: float = NATURAL_LOSS, false_alarms: float = FALSE_ALARMS
    ) -> None:
        self.action = action
        self._natural_loss = natural_loss
        self._false_alarms = false_alarms

    def decide(self, loss: LoopLoss) -> str:
        """`action`, or to go on."""
        if loss.kind == BLOCKED:
            return GO_ON if loss.returned or loss.sent < FEWEST_DUE else self.action
        false_alarms = self._false_alarms if loss.kind == LOSS else min(self._false_alarms, FALSE_LATE_ALARMS)
        return GO_ON if is_chance(loss, self._natural_loss, false_alarms) else self.action


@dataclass(slots=True)
class _Window:
    ends: float
    complete_at: float  # when every loop of it has had its time
    sent: int = 0
    waiting: set[bytes] = field(default_factory=set)


class LoopLedger:
    """Loops that are out, and those that came back, by the window in which they left.

    A window is judged when each of its loops has had `PATIENCE` seconds beyond its own delays; who comes later is lost.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds`: the length of a window."""
        self.seconds = seconds
        self.sent = 0
        self.returned = 0
        self.lost = 0
        self._windows: deque[_Window] = deque()

    def left(self, loop: bytes, delays: float, now: float) -> None:
        """A loop (16 bytes) has left; `delays` is the sum of those drawn for it, in seconds."""
        if not self._windows or now >= self._windows[-1].ends:
            self._windows.append(_Window(now + self.seconds, now + self.seconds))
        window = self._windows[-1]
        window.sent += 1
        window.waiting.add(loop)
        window.complete_at = max(window.complete_at, now + delays + PATIENCE)
        self.sent += 1

    def came_back(self, loop: bytes) -> bool:
        """Whether this is a loop that is waited for; it is not any more."""
        for window in self._windows:
            if loop in window.waiting:
                window.waiting.remove(loop)
                self.returned += 1
                return True
        return False

    def finished(self, now: float) -> list[LoopLoss]:
        """The windows that are over, the oldest first, each once."""
        losses = []
        while self._windows and self._windows[0].complete_at <= now:
            window = self._windows.popleft()
            self.lost += len(window.waiting)
            losses.append(LoopLoss(window.sent, window.sent - len(window.waiting), self.seconds))
        return losses


class LoopTimes:
    """Whether loops come back in time. Times are those of the caller's clock, in seconds.

    A loop is due `grace` after the delays drawn for it and what loops usually take besides. `look` is to be called at
    equal distances, well below `moment`: time in which the caller itself was held up does not count, nor does time in
    which all mail came full: loops wait behind it then.
    """

    def __init__(self, moment: float, window: float = LATE_WINDOW) -> None:
        """`moment`: the seconds in which, at the rate of the loops, more than `FEWEST_DUE` are due almost surely."""
        self._moment, self._window = moment, window
        self.grace = GRACE
        self._mail = self._full = 0  # since the last look
        self._usual = GRACE
        self._due: list[tuple[float, bytes]] = []  # a heap
        self._left: dict[bytes, float] = {}  # when it left plus its delays, of those that are out and not late
        self._recent: deque[tuple[float, bool]] = deque()
        self._stalled = 0.0
        self._looked: float | None = None
        self._ends: float | None = None
        self._counted = self._in_time = 0
        self._blocked = False

    @property
    def usual(self) -> float:
        """Seconds that loops take beyond their drawn delays: links, slots of lines, machines."""
        return self._usual

    def left(self, loop: bytes, delays: float, now: float) -> None:
        """A loop (16 bytes) has left; `delays` is the sum of those drawn for it, in seconds."""
        expected = now - self._stalled + delays
        self._left[loop] = expected
        heapq.heappush(self._due, (expected + self._usual + self.grace, loop))

    def came_back(self, loop: bytes, now: float) -> bool:
        """Whether it is in time."""
        expected = self._left.pop(loop, None)
        if expected is None:
            return False
        extra = now - self._stalled - expected
        self._usual += _LEARN * (min(max(extra, 0.0), MOST_USUAL) - self._usual)
        return True

    def mail(self, is_full: bool) -> None:
        """Some of what had waited for the caller has come; `is_full`: as much of it as comes at once."""
        self._mail += 1
        self._full += is_full

    def reset(self) -> None:
        """There was no link: what was out says nothing."""
        self._due.clear()
        self._left.clear()
        self._recent.clear()
        self._looked = self._ends = None
        self._counted = self._in_time = 0

    def look(self, now: float) -> list[LoopLoss]:
        """What can be said now: of a LATE window that is over, and a moment that is BLOCKED, or is not any more."""
        backlog = self._mail > 0 and self._full == self._mail
        if self._looked is not None and (backlog or now - self._looked > _STALL):
            self._stalled += now - self._looked
        self._looked, self._mail, self._full = now, 0, 0
        at = now - self._stalled
        while self._due and self._due[0][0] <= at:
            due, loop = heapq.heappop(self._due)
            in_time = self._left.pop(loop, None) is None
            self._recent.append((due, in_time))
            self._counted += 1
            self._in_time += in_time
        while self._recent and self._recent[0][0] <= at - self._moment:
            self._recent.popleft()
        return [*self._late(at), *self._moments()]

    def _late(self, at: float) -> list[LoopLoss]:
        if self._ends is None:
            self._ends = at + self._window
        if at < self._ends:
            return []
        loss = LoopLoss(self._counted, self._in_time, self._window, LATE)
        self._ends, self._counted, self._in_time = at + self._window, 0, 0
        return [loss]

    def _moments(self) -> list[LoopLoss]:
        returned = sum(in_time for _, in_time in self._recent)
        blocked = not returned and len(self._recent) >= FEWEST_DUE
        if blocked == self._blocked or not (blocked or returned):
            return []
        self._blocked = blocked
        return [LoopLoss(len(self._recent), returned, self._moment, BLOCKED)]
