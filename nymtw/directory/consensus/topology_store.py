"""The newest signed topology and what leads to it, from any maker."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nymtw.encoding import from_cbor
from nymtw.errors import TopologyError
from nymtw.topology.delta import make_delta
from nymtw.topology.document import (
    MAX_TOPOLOGY_LENGTH,
    Former,
    NodeRecord,
    PublicClient,
    Recommended,
    SignedTopology,
    Topology,
    Trust,
)
from nymtw.topology.lines import with_lines

REFRESH = 60.0  # seconds
EPOCH_SECONDS = 86400
# From how many earlier topologies there is a delta.
DELTAS = 4


def default_validity(refresh: float) -> float:
    """How long (seconds) a topology is valid: thirty refreshes, and ten minutes at least, if the directory is away."""
    return max(30 * refresh, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is in every topology besides nodes and clients; times in seconds."""

    refresh: float = REFRESH
    epoch_seconds: int = EPOCH_SECONDS
    validity: float
    recommended: Recommended
    minimum_client_version: str = ""

    def topology(
        self,
        network: bytes,
        serial: int,
        published: int,
        epoch: int,
        nodes: tuple[NodeRecord, ...],
        clients: tuple[PublicClient, ...],
        former: Former | msgspec.UnsetType = msgspec.UNSET,
        before: Topology | None = None,
    ) -> Topology:
        """That of these nodes and clients; the others as in `Topology`, `published` in nanoseconds.

        `before`: the topology that this one follows, whose lines keep their rates within a key epoch.
        """
        return Topology(
            serial=serial,
            network=network,
            published=published,
            valid_until=published + int(self.validity * 1e9),
            refresh=self.refresh,
            epoch=epoch,
            epoch_seconds=self.epoch_seconds,
            recommended=self.recommended,
            minimum_client_version=self.minimum_client_version,
            nodes=with_lines(nodes, self.recommended, epoch, before),
            clients=clients,
            former=former,
        )

    def settings(self) -> dict[str, str]:
        """As text by name, which directories that sign together must have alike."""
        values = {
            "refresh": self.refresh,
            "epoch_seconds": self.epoch_seconds,
            "validity": self.validity,
            "minimum_client_version": self.minimum_client_version,
            **msgspec.structs.asdict(self.recommended),
        }
        return {name: f"{value}" for name, value in values.items()}


class TopologyStore:
    """The newest signed topology, and deltas to it from the four before."""

    def __init__(self, trust: Trust, refresh: float, signed: Callable[[bytes], None] = lambda document: None) -> None:
        """`signed` is told every new one, to keep it."""
        self._trust = trust
        self._refresh = refresh
        self._signed = signed
        self.placements = 0  # grows whenever a node whose role is decided here has another one
        self._document = b""
        self._topology: Topology | None = None
        self._signers: list[bytes] = []
        self._signers_of = b""
        self._earlier: dict[int, Topology] = {}  # by serial, the oldest first
        self._deltas: dict[int, bytes] = {}  # by the serial they lead from

    @property
    def trust(self) -> Trust:
        """What this directory's nodes and clients pin."""
        return self._trust

    @property
    def refresh(self) -> float:
        """Seconds from one topology to the next."""
        return self._refresh

    @property
    def newest(self) -> Topology | None:
        """The newest one that has been made; none is made for this."""
        return self._topology

    def put(self, document: bytes, topology: Topology) -> None:
        """A new one: `document` is the CBOR of the `SignedTopology` of `topology`; its signatures are right."""
        if self._topology is not None and self._topology.serial != topology.serial:
            self._earlier[self._topology.serial] = self._topology
            while len(self._earlier) > DELTAS:
                del self._earlier[next(iter(self._earlier))]
        self._deltas.clear()
        self.placements += _placed(self._topology) != _placed(topology)
        self._document, self._topology = document, topology
        self._signed(document)

    def document(self) -> bytes:
        """The CBOR of the newest `SignedTopology`. Raises `TopologyError` where there is none yet."""
        self.bring_up_to_date()
        if self._topology is None:
            raise TopologyError("there is no topology yet: not enough directories have signed one")
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
        """What is in `document`. Raises `TopologyError`."""
        self.document()
        if self._topology is None:
            raise TopologyError("no topology has been made")
        return self._topology

    def signers(self) -> list[bytes]:
        """The directories whose signatures are under the newest, by identity; none where there is none yet."""
        try:
            document = self.document()
        except TopologyError:
            return []
        if self._signers_of is not document:
            self._signers = sorted(from_cbor(document, SignedTopology, MAX_TOPOLOGY_LENGTH).signatures)
            self._signers_of = document
        return self._signers

    def bring_up_to_date(self) -> None:
        """Make a topology if one is due, where they are made on request."""


def _placed(topology: Topology | None) -> list[tuple[bytes, str, int]]:
    """Where those nodes are whose role is decided here."""
    nodes = () if topology is None else topology.nodes
    return [(node.identity, node.role, node.layer) for node in nodes if node.places]
