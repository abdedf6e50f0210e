"""The parts of a directory that signs together with others, as its configuration asks for them."""

from collections.abc import Callable
from typing import Any

from nacl.signing import SigningKey

from nymtw.directory.config import DirectorySection
from nymtw.directory.consensus.agreement import Agreement, round_length
from nymtw.directory.consensus.peers import HTTPPeer, IPeer, parse_peer
from nymtw.directory.consensus.topology_store import Terms, TopologyStore
from nymtw.directory.consensus.votes import Roster
from nymtw.directory.registry import Registry
from nymtw.errors import ConfigError, TopologyError
from nymtw.node.directories.trust import majority
from nymtw.topology.document import MIXNODE, Trust, verify_topology

LEAST_PATIENCE = 2.0  # seconds for a request to another directory


class ConsensusSetup:
    """Raises `ConfigError` for peers or a threshold that cannot be."""

    def __init__(
        self,
        clock: Any,
        wall_clock: Callable[[], float],
        identity: SigningKey,
        section: DirectorySection,
        terms: Terms,
        peer: Callable[[str], IPeer] | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._identity = identity
        self._terms = terms
        if not section.peers:
            raise ConfigError("--threshold: it needs several directories, and there is no --peer")
        named = [parse_peer(text) for text in section.peers]
        own = bytes(identity.verify_key)
        keys = (own, *(key for _, key in named))
        if len(set(keys)) != len(keys):
            raise ConfigError("--peer: a directory is named twice, or this one is among its own peers")
        if section.threshold > len(keys):
            raise ConfigError(f"--threshold: there are {len(keys)} directories, not {section.threshold}")
        trust = Trust(tuple(sorted(keys)), section.threshold or majority(len(keys)))
        self._roster = Roster(trust, own)
        patience = max(LEAST_PATIENCE, 2 * round_length(terms.refresh, self._roster.faulty))
        make = peer or (lambda url: HTTPPeer(clock, url, timeout=patience))
        self._peers = {key: make(url) for url, key in named}
        self._topology_store = TopologyStore(trust, terms.refresh)

    def topology_store(self, previous: bytes | None, keep: Callable[[bytes], None]) -> TopologyStore:
        """With the last document before a restart, if it still holds; `keep` is told every new one."""
        self._topology_store = TopologyStore(self._roster.trust, self._terms.refresh, keep)
        if previous:
            now = self._wall_clock()
            try:
                topology = verify_topology(previous, self._roster.trust, 0.0)
                # The places of an epoch stand, even if all directories were away for longer than a topology is valid.
                if not topology.epoch <= now // topology.epoch_seconds <= topology.epoch + 1:
                    verify_topology(previous, self._roster.trust, now)
            except TopologyError:
                return self._topology_store  # out of date, or of other directories
            self._topology_store.put(previous, topology)
        return self._topology_store

    def agreement(self, registry: Registry, fingerprint: Callable[[], bytes]) -> Agreement:
        """The agreement for the last topology store; `fingerprint()`: a digest of the admitted nodes."""
        return Agreement(
            self._clock,
            self._wall_clock,
            registry,
            self._topology_store,
            self._identity,
            self._roster,
            self._terms,
            self._peers,
            admission=fingerprint,
        )

    def layer_of(self, identity: bytes) -> int:
        """The layer that all have assigned to a mixnode that asks for one; 0: none yet."""
        try:
            node = self._topology_store.topology().find(identity)
        except TopologyError:
            return 0
        return node.layer if node is not None and node.role == MIXNODE else 0
