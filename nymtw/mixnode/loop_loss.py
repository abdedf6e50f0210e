"""How many of a node's loops come back, window by window, and whether so many can be lost by chance. Pure."""

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
# Of windows without an attack, at most this share is taken for one.
FALSE_ALARMS: Final = 1e-6
# Seconds that a loop is waited for beyond the delays drawn for it: a link gives up a packet after 10.
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class LoopLoss:
    """Of `sent` loops that left within one window of `seconds`, `returned` came back."""

    sent: int
    returned: int
    seconds: float

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
        return GO_ON if is_chance(loss, self._natural_loss, self._false_alarms) else self.action


@dataclass(slots=True)
class _Window:
    ends: float
    judged: float  # when every loop of it has had its time
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
        window.judged = max(window.judged, now + delays + PATIENCE)
        self.sent += 1

    def came_back(self, loop: bytes) -> bool:
        """Whether this is a loop that is waited for; it is not any more."""
        for window in self._windows:
            if loop in window.waiting:
                window.waiting.remove(loop)
                self.returned += 1
                return True
        return False

    def coordinator(self, now: float) -> list[LoopLoss]:
        """The windows that are over, the oldest first, each once."""
        losses = []
        while self._windows and self._windows[0].judged <= now:
            window = self._windows.popleft()
            self.lost += len(window.waiting)
            losses.append(LoopLoss(window.sent, window.sent - len(window.waiting), self.seconds))
        return losses
