"""Makes the signed topology: a new one when it is asked for and due. No I/O; both clocks are arguments."""

from collections.abc import Callable, Sequence
from itertools import chain, islice, zip_longest

from nacl.signing import SigningKey

from nymtw.directory.assignment import assign, places_in
from nymtw.directory.registry import Registry
from nymtw.errors import TopologyError
from nymtw.topology.delta import make_delta
from nymtw.topology.document import ListedClient, Recommended, Topology, Trust, sign_topology, verify_topology

REFRESH = 60.0  # seconds
EPOCH_SECONDS = 86400
# After a restart nobody has announced himself yet: the last topology stands until everybody could have.
RESTART_GRACE = 5.0
# From how many earlier topologies there is a delta.
DELTAS = 4
# More would make the document longer than a reader takes.
MAX_CLIENTS = 10_000


def default_validity(refresh: float) -> float:
    """How long (seconds) a topology is valid: thirty refreshes, and ten minutes at least, if the directory is away."""
    return max(30 * refresh, 600.0)


class Publisher:
    """The newest signed topology.

    One is signed every `refresh` seconds, and a second after the one before if nodes have come or gone since. The
    serial is the nanosecond it was made, and grows even where the wall clock does not.
    """

    def __init__(
        self,
        registry: Registry,
        signing_keys: Sequence[SigningKey],
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        *,
        refresh: float = REFRESH,
        epoch_seconds: int = EPOCH_SECONDS,
        validity: float | None = None,
        recommended: Recommended | None = None,
        previous: bytes | None = None,
        signed: Callable[[bytes], None] = lambda document: None,
    ) -> None:
        """`previous` is the last document before a restart; `signed` is told every new one, to keep it."""
        self._registry = registry
        self._signing_keys = list(signing_keys)
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._refresh = refresh
        self._epoch_seconds = epoch_seconds
        self._validity = default_validity(refresh) if validity is None else validity
        self._recommended = Recommended() if recommended is None else recommended
        self._signed = signed
        self._trust = Trust(tuple(bytes(key.verify_key) for key in self._signing_keys))
        self._made = seconds()
        self._version = registry.version
        self._document = b""
        self._hold_until = self._made
        self._topology: Topology | None = None
        self._earlier: dict[int, Topology] = {}  # by serial, the oldest first
        self._deltas: dict[int, bytes] = {}  # by the serial they lead from
        if previous:
            self._restore(previous)

    @property
    def trust(self) -> Trust:
        """What this directory's nodes and clients pin."""
        return self._trust

    @property
    def refresh(self) -> float:
        """Seconds from one topology to the next."""
        return self._refresh

    def document(self) -> bytes:
        """The CBOR of the newest `SignedTopology`."""
        if self._topology is None or self._is_due(self._topology):
            self._make()
        return self._document

    def delta(self, since: int) -> bytes | None:
        """The CBOR of the `TopologyDelta` from the topology with the serial `since`; None if that is not kept."""
        newest = self.topology()
        before = self._earlier.get(since)
        if before is None:
            return None
        if since not in self._deltas:
            self._deltas[since] = make_delta(before, newest, self._document)
        return self._deltas[since]

    def topology(self) -> Topology:
        """What is in `document`."""
        self.document()
        if self._topology is None:
            raise TopologyError("no topology has been made")
        return self._topology

    def _is_due(self, topology: Topology) -> bool:
        now = self._seconds()
        if now < self._hold_until:
            return False
        self._registry.expire()
        changed = self._registry.version != self._version or self._epoch() != topology.epoch
        return now - self._made >= (min(self._refresh, 1.0) if changed else self._refresh)

    def _epoch(self) -> int:
        return int(self._wall_clock() // self._epoch_seconds)

    def _make(self) -> None:
        if self._topology is not None:
            self._earlier[self._topology.serial] = self._topology
            while len(self._earlier) > DELTAS:
                del self._earlier[next(iter(self._earlier))]
        self._deltas.clear()
        entries = self._registry.live()
        published = int(self._wall_clock() * 1e9)
        serial = published if self._topology is None else max(published, self._topology.serial + 1)
        self._topology = Topology(
            serial=serial,
            network=self._trust.network,
            published=published,
            valid_until=published + int(self._validity * 1e9),
            refresh=self._refresh,
            epoch=self._epoch(),
            epoch_seconds=self._epoch_seconds,
            recommended=self._recommended,
            nodes=assign(
                [entry.record for entry in entries],
                places_in(self._topology),
                epoch=self._epoch(),
                published=published,
                epoch_seconds=self._epoch_seconds,
                refresh=self._refresh,
            ),
            clients=_listed([entry.clients for entry in entries]),
        )
        self._document = sign_topology(self._topology, self._signing_keys)
        self._made = self._seconds()
        self._version = self._registry.version
        self._signed(self._document)

    def _restore(self, previous: bytes) -> None:
        try:
            topology = verify_topology(previous, self._trust, self._wall_clock())
        except TopologyError:
            return  # out of date, or by another key: the first one is made when it is asked for
        self._topology = topology
        self._document = previous
        if (topology.epoch_seconds, topology.epoch) == (self._epoch_seconds, self._epoch()):
            self._hold_until = self._made + RESTART_GRACE
        else:
            self._made -= self._refresh


def _listed(clients_of_nodes: Sequence[Sequence[ListedClient]]) -> tuple[ListedClient, ...]:
    """Each node's first client, each one's second, and so on, so that nobody crowds out the others' clients."""
    in_turn = chain.from_iterable(zip_longest(*filter(None, clients_of_nodes)))
    return tuple(islice((client for client in in_turn if client is not None), MAX_CLIENTS))
