"""The time for which a silent node stays in the consensus. Pure: times are arguments.

One that is silent stays for several refreshes. Where more than half of a layer is silent at once, it is more likely
that its listeners are cut off, or that a machine with many nodes stalls, than that all of them are gone: then each
stays for a further grace, and the directory says so before and after.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from twisted.logger import Logger

from nymtw.topology.document import MIXNODE, NodeRecord

EXPIRY: Final = 60.0  # seconds, of a network that refreshes often; it is three refreshes where those are longer
REFRESHES: Final = 3
MOST_LOST: Final = 0.5  # of a layer, at once


class Silent(Protocol):
    """The record of a silent node."""

    @property
    def record(self) -> NodeRecord: ...
    @property
    def seen(self) -> float: ...


def default_expiry(refresh: float) -> float:
    """Seconds of silence until a node leaves the signed topology: three refreshes, and a minute at least."""
    return max(EXPIRY, REFRESHES * refresh)


class Retention:
    """Nodes that are silent for too long. `log` has a line when much of a layer is lost, and when it is let go."""

    log = Logger()

    def __init__(self, expiry: float = EXPIRY, grace: float | None = None) -> None:
        """`expiry` and `grace` in seconds; the grace is as long as the expiry unless it is given.

        `placed(record)` is to be set where roles are assigned: the record in the role that the node has now.
        """
        self.expiry = expiry
        self.grace = expiry if grace is None else grace
        self.placed: Callable[[NodeRecord], NodeRecord] = lambda record: record
        self._held: set[str] = set()

    def leaving(self, live: Iterable[NodeRecord], silent: Sequence[Silent], now: float) -> list[bytes]:
        """The identities of those of `silent` that leave now; `now` is by the clock of their `seen`."""
        overdue = [member for member in silent if now - member.seen > self.expiry]
        if not overdue:
            self._held.clear()
            return []
        lost = Counter(self._part(member.record) for member in silent)
        whole = lost + Counter(self._part(record) for record in live)
        torn = {part for part, number in lost.items() if number > MOST_LOST * whole[part]}
        leaving = [
            member
            for member in overdue
            if self._part(member.record) not in torn or now - member.seen > self.expiry + self.grace
        ]
        held = {self._part(member.record) for member in overdue} & torn
        gone = {self._part(member.record) for member in leaving} & torn
        for part in sorted(held - self._held - gone):
            self.log.error(
                "{lost} of the {whole} nodes of {part} are silent: they stay in the signed topology for {grace:.0f} s "
                "more, and leave it then",
                lost=lost[part],
                whole=whole[part],
                part=part,
                grace=self.grace,
            )
        for part in sorted(gone):
            self.log.error(
                "{lost} of the {whole} nodes of {part} were silent for {seconds:.0f} s: the topology is signed without "
                "those",
                lost=lost[part],
                whole=whole[part],
                part=part,
                seconds=self.expiry + self.grace,
            )
        self._held = held
        return [member.record.identity for member in leaving]

    def _part(self, record: NodeRecord) -> str:
        record = self.placed(record)
        return f"layer {record.layer}" if record.role == MIXNODE else "the edge"
