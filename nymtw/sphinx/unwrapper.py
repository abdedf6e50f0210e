"""Taking a layer off many packets, as a node does: keys kept ready, answers in order, nothing raised for them."""

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
        """Replace all keys. Raises `SphinxInputError` for a key of the wrong length, and then keeps the old ones."""
        self._keys = {epoch: load_private_key(key) for epoch, key in keys_by_epoch.items()}

    def unwrap_many(
        self, packets: Sequence[tuple[int, bytes]], fresh: Callable[[bytes], bool] | None = None
    ) -> list[ForwardHop | FinalHop | PacketRejected]:
        """What `process_packet` answers or raises for each (key epoch, packet), in order.

        `fresh` is given the 32-byte replay tag of each packet whose MAC is right, before anything of it is decrypted;
        where it answers False, the packet is rejected as replayed, and where it raises `ReplayGuardFull`, for that.
        An epoch without a key rejects the packet.
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
