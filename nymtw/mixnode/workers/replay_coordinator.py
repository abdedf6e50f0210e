"""What a mixnode with workers has for a core: it judges their packets' replay tags, and takes what ends here."""

from collections.abc import Iterable, Mapping
from typing import Any

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, ReplayGuardFull
from nymtw.mixnode.core import MixnodeCore


class ReplayCoordinator(MixnodeCore):
    """The node's core while workers do its work: it has the keys, the topology and the guard, but no packets."""

    workers: Any = None
    _held: frozenset[int] = frozenset()

    @property
    def allowed_peers(self) -> frozenset[bytes]:
        """Whom the node takes packets from."""
        return self._allowed_peers

    @property
    def queued(self) -> int:
        """Packets that the workers hold, those in their links not counted."""
        return max(0, self.counters.queued - self.workers.pending)

    def act(self, action: str) -> None:
        super().act(action)
        self.workers.act(action)

    def drain(self) -> None:
        super().drain()
        self.workers.drain()

    def set_max_delay(self, seconds: float) -> None:
        super().set_max_delay(seconds)
        if self.workers is not None:
            self.workers.set_max_delay(seconds)

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        super().use_keys(private_keys)
        self._held = frozenset(private_keys)
        self.workers.use_keys(private_keys)

    def verdicts(self, tags: Iterable[tuple[int, bytes, bytes]]) -> list[DropReason | None]:
        """For each (number of the key, tag of 16 bytes, peer) why the packet is dropped; None where it is not."""
        held, rations, is_fresh = self._held, self._rations, self._is_fresh
        reasons: list[DropReason | None] = []
        for number, tag, peer in tags:
            # A tag for a key that is gone meanwhile must not bring its file back: everything would be fresh in it.
            if number not in held:
                reasons.append(DropReason.UNKNOWN_EPOCH)
                continue
            try:
                ration = rations.get(number)
                fresh = is_fresh(number, tag) if ration is None else self._in_share(ration, peer, number, tag)
            except ReplayGuardFull:
                reasons.append(DropReason.REPLAY_GUARD_FULL)
            except PacketRejected as rejected:
                reasons.append(rejected.reason)
            else:
                reasons.append(None if fresh else DropReason.REPLAYED)
        return reasons

    def tags_are_written(self) -> bool:
        """Write all new tags; False where the disk refuses."""
        return self._tags_are_written()
