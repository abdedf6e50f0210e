"""The replay check of a node: refuses tags that were seen, and shares a nearly full filter between peers."""

from collections import Counter
from collections.abc import Container

from twisted.logger import Logger

from nymtw.drop_reasons import DropReason
from nymtw.errors import DiskError, PacketRejected
from nymtw.mixing.replay_guard import ReplayGuard


class Ration:
    """What is left of a key's replay filter, for each peer."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.taken: Counter[bytes] = Counter()


class ReplayCheck:
    """`guard` keeps the tags, `rations` what is left for each peer, by the number of a key."""

    log = Logger()

    def __init__(self, guard: ReplayGuard) -> None:
        self.guard = guard
        self.rations: dict[int, Ration] = {}
        self._disk_failed = False

    def keep_only(self, numbers: Container[int]) -> None:
        """Forget the tags of keys with other numbers."""
        self.rations = {number: ration for number, ration in self.rations.items() if number in numbers}
        for number in self.guard.epochs:
            if number not in numbers:
                self.guard.forget(number)

    def ration(self, number: int, peers: int) -> None:
        """From now on each of so many peers gets an equal share of what is left of the filter of this key."""
        self.rations.setdefault(number, Ration(self.guard.room(number) // max(1, peers)))

    def is_fresh(self, number: int, tag: bytes) -> bool:
        """Whether the tag (16 bytes) is new under this key. Raises `PacketRejected` where it cannot be kept."""
        try:
            return self.guard.fresh(number, tag)
        except DiskError as error:
            self._log_disk_failure(error)
            raise PacketRejected(DropReason.DISK_ERROR) from None

    def in_share(self, ration: Ration, peer: bytes, number: int, tag: bytes) -> bool:
        """The same, where each peer has its share. Raises `PacketRejected` also past that."""
        if ration.taken[peer] >= ration.share:
            raise PacketRejected(DropReason.PEER_SHARE)
        fresh = self.is_fresh(number, tag)
        ration.taken[peer] += fresh
        return fresh

    def write(self) -> bool:
        """Write all new tags. False if the disk refuses, which is logged once."""
        try:
            self.guard.flush()
        except DiskError as error:
            self._log_disk_failure(error)
            return False
        if self._disk_failed:
            self.log.info("Replay tags are written again")
            self._disk_failed = False
        return True

    def _log_disk_failure(self, error: DiskError) -> None:
        if not self._disk_failed:
            self.log.error("No packet passes until replay tags can be written: {error}", error=error)
            self._disk_failed = True
