"""Who may send over a gateway, and how much: by default everybody what a client of this network sends, and a tenth
more. What is above that is dropped and counted, and nobody is told or hung up on.
"""

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nymtw.drop_reasons import DropReason
from nymtw.interfaces import IAllowance, ICredentialVerifier
from nymtw.topology.document import Recommended, Topology

MARGIN: Final = 1.1
BURST: Final = 100.0  # packets: of a Poisson stream a tenth slower, fewer than one in 10^8 finds none
_LEAST_SWEPT: Final = 1024


def client_rate(recommended: Recommended) -> float:
    """Packets a second that a client may send: those of its three streams, and a tenth more."""
    streams = recommended.message_sending_rate + recommended.loop_cover_traffic_rate
    return MARGIN * (streams + recommended.drop_cover_traffic_rate)


def downlink_rate(recommended: Recommended) -> float:
    """Slots a second that are pushed to a client, at least 1: twice its own packets, which are its loops and the acks
    of all it sends, and as much again as one other client sends to it.
    """
    sending = recommended.message_sending_rate
    own = sending + recommended.loop_cover_traffic_rate + recommended.drop_cover_traffic_rate
    return max(1.0, 2 * own + sending)


@implementer(ICredentialVerifier)
class OpenAdmission:
    """The default `ICredentialVerifier`: asks for no credential. `rate`: packets a second for each client; None: the
    `client_rate` of the topology.

    A client's bucket outlives its session, so that nobody sends more by logging in more often.
    """

    def __init__(self, clock: IReactorTime, rate: float | None = None) -> None:
        self.clock: Any = clock
        self._fixed = rate is not None
        self.rate = client_rate(Recommended()) if rate is None else rate
        self._buckets: dict[bytes, TokenBucket] = {}
        self._sweep_at = _LEAST_SWEPT

    def verify(self, mailbox: bytes, credential: bytes) -> "TokenBucket":
        """The client's bucket. A full one is worth as much as a new one: such are forgotten."""
        bucket = self._buckets.get(mailbox)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._buckets = {key: kept for key, kept in self._buckets.items() if not kept.is_full()}
                self._sweep_at = max(_LEAST_SWEPT, 2 * len(self._buckets))
            bucket = self._buckets[mailbox] = TokenBucket(self)
        return bucket

    def use_topology(self, topology: Topology) -> None:
        """From now on the rate is the one of this topology."""
        if not self._fixed:
            self.rate = client_rate(topology.recommended)

    def use_rate(self, rate: float | None, recommended: Recommended) -> None:
        """From now on the rate is `rate`; None: the one that follows from `recommended` and later topologies."""
        self._fixed = rate is not None
        self.rate = client_rate(recommended) if rate is None else rate


@implementer(IAllowance)
class TokenBucket:
    """`BURST` packets at most, and `rate` more of them in every second."""

    __slots__ = ("_admission", "_at", "_tokens")

    def __init__(self, admission: OpenAdmission) -> None:
        self._admission = admission
        self._tokens = BURST
        self._at = admission.clock.seconds()

    def take(self) -> DropReason | None:
        """As `IAllowance`."""
        self._fill()
        if self._tokens < 1:
            return DropReason.OVER_ALLOWANCE
        self._tokens -= 1
        return None

    def is_full(self) -> bool:
        """Whether it is like a new one."""
        self._fill()
        return self._tokens >= BURST

    def _fill(self) -> None:
        now = self._admission.clock.seconds()
        self._tokens = min(BURST, self._tokens + (now - self._at) * self._admission.rate)
        self._at = now
