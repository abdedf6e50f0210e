"""Packets without cryptography: a table in memory says what is in each, so that long simulations take minutes.

Lengths are the real ones, and so are replay tags, epochs and routes. The bytes of a packet are a number and what it
carries: nothing is hidden from their readers. Packets that are not in the table, those of reply blocks, are real.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from nacl.bindings import crypto_scalarmult_base

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError, PacketRejected, ReplayGuardFull
from nymtw.message.cryptography import Unwrapped
from nymtw.message.sealing import KEY_LENGTH, SEAL_OVERHEAD
from nymtw.sphinx import VERSION_SEED, FinalHop, ForwardHop, Hop, SizeClass, Unwrapper
from nymtw.sphinx.geometry import HEADER_LENGTH
from nymtw.sphinx.header import check_route
from nymtw.sphinx.payload import check_message, pad_message

UNDER_WAY: Final = 1_000_000  # packets; the oldest is forgotten for the next one
_PREFIX: Final = b"a packet of a table: "
_NUMBER_LENGTH: Final = 10
_HEAD_LENGTH: Final = len(_PREFIX) + _NUMBER_LENGTH
_KEY_LENGTH: Final = _HEAD_LENGTH + 1
_SEAL_FILL: Final = bytes(SEAL_OVERHEAD - KEY_LENGTH)


class _Entry(NamedTuple):
    route: tuple[bytes, ...]
    delays: tuple[int, ...]
    destination: bytes
    identifier: bytes


class TableCryptography:
    """One for all nodes and clients of a network. A `nymtw.message.cryptography.Cryptography`."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._count = 0

    def build(
        self,
        message: bytes,
        route: Sequence[Hop],
        delays: Sequence[int],
        destination: bytes,
        identifier: bytes = bytes(16),
        *,
        size_class: SizeClass = SizeClass.REGULAR,
        random: Random | None = None,
    ) -> bytes:
        """A packet of the right length. Raises `SphinxInputError` like `nymtw.sphinx.build_packet`."""
        geometry = check_message(message, size_class)
        check_route(route, delays, destination, identifier, VERSION_SEED)
        self._count += 1
        head = _PREFIX + self._count.to_bytes(_NUMBER_LENGTH, "big")
        addresses = tuple(hop.address for hop in route)
        self._entries[head] = _Entry(addresses, tuple(delays), destination, identifier)
        if len(self._entries) > UNDER_WAY:
            del self._entries[next(iter(self._entries))]
        return (head + b"\0").ljust(HEADER_LENGTH, b"\0") + pad_message(message, geometry)

    def build_alternatives(
        self,
        messages: Sequence[bytes],
        route: Sequence[Hop],
        delays: Sequence[int],
        destination: bytes,
        *,
        size_class: SizeClass = SizeClass.REGULAR,
        random: Random | None = None,
    ) -> tuple[bytes, list[bytes]]:
        """As `nymtw.sphinx.build_alternatives`."""
        packet = self.build(messages[0], route, delays, destination, size_class=size_class, random=random)
        payloads = [pad_message(message, check_message(message, size_class)) for message in messages]
        return packet[:HEADER_LENGTH], payloads

    def unwrapper(self) -> "TableUnwrapper":
        """A node's, without keys yet."""
        return TableUnwrapper(self._entries)

    def seal(self, plaintext: bytes, recipient_key: bytes, random: Random) -> bytes:
        """`plaintext`, 48 bytes longer, and readable by all. Raises `EncodingError` for a key of the wrong length."""
        if len(recipient_key) != KEY_LENGTH:
            raise EncodingError("this is not a key that a message can be sealed to")
        return recipient_key + _SEAL_FILL + plaintext

    def unseal(self, sealed: bytes, private_key: bytes, public_key: bytes | None = None) -> bytes:
        """What was sealed to this key. Raises `EncodingError` for anything else."""
        if sealed[:KEY_LENGTH] != (public_key or crypto_scalarmult_base(private_key)):
            raise EncodingError("these bytes were not sealed to this key")
        return sealed[SEAL_OVERHEAD:]


class TableUnwrapper:
    """Looks packets up; what is not in the table is unwrapped for real."""

    def __init__(self, entries: dict[bytes, _Entry]) -> None:
        self._entries = entries
        self._epochs: frozenset[int] = frozenset()
        self._real = Unwrapper({})

    def set_keys(self, keys_by_epoch: Mapping[int, bytes]) -> None:
        """Replace all keys. Raises `SphinxInputError` for a key of the wrong length."""
        self._real.set_keys(keys_by_epoch)
        self._epochs = frozenset(keys_by_epoch)

    def unwrap_many(
        self, packets: Sequence[tuple[int, bytes]], fresh: Callable[[bytes], bool] | None = None
    ) -> list[Unwrapped]:
        """As `nymtw.sphinx.Unwrapper.unwrap_many`."""
        return [self._unwrap(epoch, packet, fresh) for epoch, packet in packets]

    def _unwrap(self, epoch: int, packet: bytes, fresh: Any) -> Unwrapped:
        head = packet[:_HEAD_LENGTH]
        entry = self._entries.get(head)
        if entry is None:
            return self._real.unwrap_many([(epoch, packet)], fresh)[0]
        if epoch not in self._epochs:
            return PacketRejected(DropReason.UNKNOWN_EPOCH)
        hop = packet[_HEAD_LENGTH]
        tag = (hop.to_bytes(1, "big") + head[-_NUMBER_LENGTH:]).ljust(32, b"\0")
        try:
            if fresh is not None and not fresh(tag):
                return PacketRejected(DropReason.REPLAYED)
        except ReplayGuardFull:
            return PacketRejected(DropReason.REPLAY_GUARD_FULL)
        except PacketRejected as rejected:
            return rejected.with_traceback(None)
        if hop < len(entry.delays):
            on = b"".join((head, bytes([hop + 1]), packet[_KEY_LENGTH:]))
            return ForwardHop(entry.route[hop + 1], entry.delays[hop], on, tag)
        del self._entries[head]
        return FinalHop(entry.destination, entry.identifier, packet[HEADER_LENGTH:], VERSION_SEED, tag)
