"""The default admission of an edge: everybody may send as much as a client of this network, and a tenth more.

Packets above that are dropped and counted. The client is neither told nor disconnected.
"""

from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nymtw.drop_reasons import DropReason
from nymtw.interfaces import IAllowance, ICredentialVerifier
from nymtw.topology.document import Recommended, Topology

MARGIN: Final = 1.1
BURST: Final = 100.0  # packets: a Poisson stream a tenth slower exceeds it with fewer than one packet in 10^8
_LEAST_SWEPT: Final = 1024


def client_rate(recommended: Recommended) -> float:
    """Packets a second that a client may send: the rates of its three streams, and a tenth more."""
    streams = recommended.message_sending_rate + recommended.loop_cover_traffic_rate
    return MARGIN * (streams + recommended.drop_cover_traffic_rate)


@implementer(ICredentialVerifier)
class OpenAdmission:
    """The default `ICredentialVerifier`: needs no credential. `rate`: packets a second for each client; None: the
    `client_rate` of the topology.

    A client's bucket outlives its session, so that repeated logins give no more packets.
    """

    def __init__(self, clock: IReactorTime, rate: float | None = None) -> None:
        self.clock: Any = clock
        self._fixed = rate is not None
        self.rate = client_rate(Recommended()) if rate is None else rate
        self._buckets: dict[bytes, TokenBucket] = {}
        self._sweep_at = _LEAST_SWEPT

    @property
    def remembered(self) -> int:
        """The number of clients whose buckets are kept."""
        return len(self._buckets)

    def verify(self, mailbox: bytes, credential: bytes) -> "TokenBucket":
        """The client's bucket. Full buckets are forgotten, because they equal new ones."""
        bucket = self._buckets.get(mailbox)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._buckets = {key: kept for key, kept in self._buckets.items() if not kept.is_full()}
                self._sweep_at = max(_LEAST_SWEPT, 2 * len(self._buckets))
            bucket = self._buckets[mailbox] = TokenBucket(self)
        return bucket

    def use_topology(self, topology: Topology) -> None:
        """Use the rate of this topology from now on."""
        if not self._fixed:
            self.rate = client_rate(topology.recommended)

    def use_rate(self, rate: float | None, recommended: Recommended) -> None:
        """Use `rate` from now on; None: the rate that follows from `recommended` and later topologies."""
        self._fixed = rate is not None
        self.rate = client_rate(recommended) if rate is None else rate


@implementer(IAllowance)
class TokenBucket:
    """Holds at most `BURST` packets; `rate` packets are added each second."""

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
        """Whether the bucket equals a new one."""
        self._fill()
        return self._tokens >= BURST

    def _fill(self) -> None:
        now = self._admission.clock.seconds()
        self._tokens = min(BURST, self._tokens + (now - self._at) * self._admission.rate)
        self._at = now
