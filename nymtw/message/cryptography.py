"""The cryptography of packets as one argument: real everywhere, a table in simulations that have no time for it."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

from nymtw.message.sealing import seal, unseal
from nymtw.sphinx import (
    FinalHop,
    ForwardHop,
    Hop,
    PacketRejected,
    SizeClass,
    Unwrapper,
    build_alternatives,
    build_packet,
)

Unwrapped = ForwardHop | FinalHop | PacketRejected


class PacketUnwrapper(Protocol):
    """Takes layers off packets, as `nymtw.sphinx.Unwrapper` does."""

    def set_keys(self, keys_by_epoch: Mapping[int, bytes]) -> None:
        """Replace all keys."""

    def unwrap_many(
        self, packets: Sequence[tuple[int, bytes]], fresh: Callable[[bytes], bool] | None = None
    ) -> list[Unwrapped]:
        """What is in each (key epoch, packet), in order."""


class Cryptography(Protocol):
    """Builds and unwraps packets, seals and unseals what they carry. Lengths are those of the real ones."""

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
        """As `nymtw.sphinx.build_packet`."""

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

    def unwrapper(self) -> PacketUnwrapper:
        """A node's, without keys yet."""

    def seal(self, plaintext: bytes, recipient_key: bytes, random: Random) -> bytes:
        """As `nymtw.message.sealing.seal`."""

    def unseal(self, sealed: bytes, private_key: bytes, public_key: bytes | None = None) -> bytes:
        """As `nymtw.message.sealing.unseal`."""


class SphinxCryptography:
    """Sphinx packets, sealed to X25519 keys."""

    def build(self, *arguments: Any, **named: Any) -> bytes:
        """As `nymtw.sphinx.build_packet`."""
        return build_packet(*arguments, **named)

    def build_alternatives(self, *arguments: Any, **named: Any) -> tuple[bytes, list[bytes]]:
        """As `nymtw.sphinx.build_alternatives`."""
        return build_alternatives(*arguments, **named)

    def unwrapper(self) -> PacketUnwrapper:
        """A `nymtw.sphinx.Unwrapper` without keys."""
        return Unwrapper({})

    def seal(self, plaintext: bytes, recipient_key: bytes, random: Random) -> bytes:
        """As `nymtw.message.sealing.seal`."""
        return seal(plaintext, recipient_key, random)

    def unseal(self, sealed: bytes, private_key: bytes, public_key: bytes | None = None) -> bytes:
        """As `nymtw.message.sealing.unseal`."""
        return unseal(sealed, private_key, public_key)


SPHINX: Final[Cryptography] = SphinxCryptography()
