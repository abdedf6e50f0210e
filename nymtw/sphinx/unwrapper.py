"""Unwraps many packets, as a node does: with prepared keys, results in order, and rejections as results."""

from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected
from nymtw.sphinx.packet import FinalHop, ForwardHop, load_private_key, unwrap


class Unwrapper:
    """A node's private keys (32 bytes each), by key epoch."""

    def __init__(self, keys_by_epoch: Mapping[int, bytes]) -> None:
        """Raises `SphinxInputError` for a key of the wrong length."""
        self._keys: dict[int, X25519PrivateKey] = {}
        self.set_keys(keys_by_epoch)

    def set_keys(self, keys_by_epoch: Mapping[int, bytes]) -> None:
        """Replace all keys. Raises `SphinxInputError` for a key of the wrong length; the old keys stay then."""
        self._keys = {epoch: load_private_key(key) for epoch, key in keys_by_epoch.items()}

    def unwrap_many(
        self, packets: Sequence[tuple[int, bytes]], fresh: Callable[[bytes], bool] | None = None
    ) -> list[ForwardHop | FinalHop | PacketRejected]:
        """The result or the error of `process_packet` for each (key epoch, packet), in order.

        `fresh` gets the 32-byte replay tag of each packet with a correct MAC, before any decryption. If it returns
        False, the packet is rejected as replayed; if it raises `ReplayGuardFull`, for that reason. A packet of an epoch
        without a key is rejected.
        """
        results: list[ForwardHop | FinalHop | PacketRejected] = []
        for epoch, packet in packets:
            key = self._keys.get(epoch)
            if key is None:
                results.append(PacketRejected(DropReason.UNKNOWN_EPOCH))
                continue
            try:
                results.append(unwrap(packet, key, fresh))
            except PacketRejected as rejected:
                results.append(rejected.with_traceback(None))
        return results
