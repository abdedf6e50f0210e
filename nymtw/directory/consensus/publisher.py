"""Makes the signed topology: a new one when it is asked for and due. No I/O; both clocks are arguments."""

from collections.abc import Callable, Sequence

from nacl.signing import SigningKey

from nymtw.directory.consensus.merge import interleave_clients
from nymtw.directory.consensus.role_assignment import assign, former_places, places_in
from nymtw.directory.consensus.topology_store import EPOCH_SECONDS, REFRESH, Terms, TopologyStore, default_validity
from nymtw.directory.registry import Registry
from nymtw.errors import TopologyError
from nymtw.topology.document import Recommended, Topology, Trust, sign_topology, verify_topology

# After a restart no node has announced itself yet: the last topology stands until all could have.
RESTART_GRACE = 5.0


class Publisher(TopologyStore):
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
        minimum_client_version: str = "",
        previous: bytes | None = None,
        signed: Callable[[bytes], None] = lambda document: None,
    ) -> None:
        """`previous` is the last document before a restart; `signed` is told every new one, to keep it."""
        super().__init__(Trust(tuple(bytes(key.verify_key) for key in signing_keys)), refresh, signed)
        self._registry = registry
        self._signing_keys = list(signing_keys)
        self._seconds = seconds
        self._wall_clock = wall_clock
        self.terms = Terms(
            refresh=refresh,
            epoch_seconds=epoch_seconds,
            validity=default_validity(refresh) if validity is None else validity,
            recommended=Recommended() if recommended is None else recommended,
            minimum_client_version=minimum_client_version,
        )
        self._known: Topology | None = None  # what places have been assigned, even if it is out of date
        self._made = seconds()
        self._version = registry.version
        self._hold_until = self._made
        if previous:
            self._restore(previous)

    def bring_up_to_date(self) -> None:
        """Make a new one if it is due."""
        if self._topology is None or self._is_due(self._topology):
            self._make()

    def _is_due(self, topology: Topology) -> bool:
        now = self._seconds()
        if now < self._hold_until:
            return False
        self._registry.expire()
        changed = self._registry.version != self._version or self._epoch() != topology.epoch
        return now - self._made >= (min(self._refresh, 1.0) if changed else self._refresh)

    def _epoch(self) -> int:
        return int(self._wall_clock() // self.terms.epoch_seconds)

    def _make(self) -> None:
        members = self._registry.members()
        published = int(self._wall_clock() * 1e9)
        serial = published if self._topology is None else max(published, self._topology.serial + 1)
        nodes = assign(
            [member.record for member in members],
            places_in(self._known),
            epoch=self._epoch(),
            published=published,
            epoch_seconds=self.terms.epoch_seconds,
            refresh=self._refresh,
        )
        topology = self.terms.topology(
            self._trust.network,
            serial,
            published,
            self._epoch(),
            nodes,
            interleave_clients([member.clients for member in members]),
            former_places(self._known, nodes, self._epoch()),
            self._known,
        )
        self._known = topology
        self._made = self._seconds()
        self._version = self._registry.version
        self.put(sign_topology(topology, self._signing_keys), topology)

    def _restore(self, previous: bytes) -> None:
        try:
            # It may be out of date: the places of its epoch stand all the same.
            topology = verify_topology(previous, self._trust, 0.0)
        except TopologyError:
            return  # by another key: the first one is made when it is asked for
        if topology.epoch_seconds == self.terms.epoch_seconds:
            self._known = topology
        if topology.valid_until < self._wall_clock() * 1e9:
            return
        self._registry.restore(topology)
        self._version = self._registry.version
        self._topology = topology
        self._document = previous
        if (topology.epoch_seconds, topology.epoch) == (self.terms.epoch_seconds, self._epoch()):
            self._hold_until = self._made + RESTART_GRACE
        else:
            self._made -= self._refresh
