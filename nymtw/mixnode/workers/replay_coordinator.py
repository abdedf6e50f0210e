"""The core of a mixnode with workers: checks the replay tags of their packets, and takes the packets that end here."""

from collections.abc import Iterable, Mapping
from typing import Any

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected, ReplayGuardFull
from nymtw.mixnode.core import MixnodeCore


class ReplayCoordinator(MixnodeCore):
    """A node's core with the keys, the topology and the replay guard, but without packets: the workers have those."""

    workers: Any = None
    _held: frozenset[int] = frozenset()

    @property
    def allowed_peers(self) -> frozenset[bytes]:
        """The peers that the node takes packets from."""
        return self._neighbours.allowed

    @property
    def queued(self) -> int:
        """The number of packets that the workers hold, without those in their links."""
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
        """For each (number of the key, tag of 16 bytes, peer) the reason to drop the packet, None for a fresh one."""
        replays, held = self.replays, self._held
        rations, is_fresh = replays.rations, replays.is_fresh
        reasons: list[DropReason | None] = []
        for number, tag, peer in tags:
            # A tag for a deleted key must not recreate the guard's file: every tag would be fresh in it.
            if number not in held:
                reasons.append(DropReason.UNKNOWN_EPOCH)
                continue
            try:
                ration = rations.get(number)
                fresh = is_fresh(number, tag) if ration is None else replays.in_share(ration, peer, number, tag)
            except ReplayGuardFull:
                reasons.append(DropReason.REPLAY_GUARD_FULL)
            except PacketRejected as rejected:
                reasons.append(rejected.reason)
            else:
                reasons.append(None if fresh else DropReason.REPLAYED)
        return reasons
