"""Unwraps packets with the keys of their key epoch, of which a renewed one has several."""

from collections.abc import Mapping
from functools import partial

from nymtw.drop_reasons import DropReason
from nymtw.errors import PacketRejected
from nymtw.message.cryptography import PacketUnwrapper
from nymtw.node.engine.replay_check import ReplayCheck
from nymtw.node.keys import epoch_of
from nymtw.sphinx import FinalHop, ForwardHop

Unwrapped = ForwardHop | FinalHop | PacketRejected


class EpochUnwrapper:
    """Tries the newest key of an epoch first. Each packet that a key fits has its tag checked for a replay."""

    def __init__(self, unwrapper: PacketUnwrapper, replays: ReplayCheck) -> None:
        self._unwrapper, self._replays = unwrapper, replays
        self._numbers: dict[int, list[int]] = {}  # epoch -> numbers of its keys, the newest first

    def use_keys(self, private_keys: Mapping[int, bytes]) -> None:
        """Unwrap with these keys (32 bytes each, by number) only; the replay tags of other keys are forgotten."""
        self._unwrapper.set_keys(private_keys)
        numbers: dict[int, list[int]] = {}
        for number in sorted(private_keys, reverse=True):
            numbers.setdefault(epoch_of(number), []).append(number)
        self._numbers = numbers
        self._replays.keep_only(private_keys)

    def unwrap(self, peer: bytes, epoch: int, packets: list[bytes]) -> list[Unwrapped]:
        """What became of each packet of one peer and key epoch."""
        numbers = self._numbers.get(epoch, [epoch])
        hops = self._unwrap_with(numbers[0], peer, packets)
        for number in numbers[1:]:
            # While a key that was taken back is still used, a packet that is not for the new one may be for that.
            left = [place for place, hop in enumerate(hops) if _has_bad_mac(hop)]
            again = self._unwrap_with(number, peer, [packets[place] for place in left])
            for place, hop in zip(left, again, strict=True):
                hops[place] = hop
        return hops

    def _unwrap_with(self, number: int, peer: bytes, packets: list[bytes]) -> list[Unwrapped]:
        replays = self._replays
        ration = replays.rations.get(number)
        if ration is None:
            is_fresh = partial(replays.is_fresh, number)
        else:
            is_fresh = partial(replays.in_share, ration, peer, number)
        return self._unwrapper.unwrap_many([(number, packet) for packet in packets], is_fresh)


def _has_bad_mac(hop: Unwrapped) -> bool:
    return isinstance(hop, PacketRejected) and hop.reason is DropReason.BAD_MAC
