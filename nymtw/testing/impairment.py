"""What a bad network does to the packets on a link: it loses, doubles and reorders them, by chance from a seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nymtw.link.frames import HEADER, Frame, FrameParser, FrameType, encode_dummy
from nymtw.sphinx import GEOMETRIES, SizeClass

_LONGEST_BODY = 1 << 20


@dataclass
class Impairment:
    """The probabilities that a PACKET frame is lost, arrives twice, or is held up for up to `hold_up` seconds while
    others pass it. Frames of other types are left alone. The numbers can be changed at any time.
    """

    clock: Any
    random: "random.Random"
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold_up: float = 0.2
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def stream(self, deliver: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Feed the result with the bytes of one connection; `deliver` is called with what comes through."""
        parser = FrameParser(frozenset(FrameType), _LONGEST_BODY)

        def feed(data: bytes) -> None:
            through: list[bytes] = []
            for frame in parser.feed(data):
                through += self._fate(frame, deliver)
            if through:
                deliver(b"".join(through))

        return feed

    def _fate(self, frame: Frame, deliver: Callable[[bytes], None]) -> list[bytes]:
        if frame.type is FrameType.DUMMY:  # whose body nobody keeps
            return [encode_dummy(frame.size_class, bytes(GEOMETRIES[SizeClass(frame.size_class)].packet_length))]
        is_packet = frame.type in (FrameType.PACKET, FrameType.SUBMIT)
        data = HEADER.pack(frame.type, frame.size_class, frame.epoch if is_packet else len(frame.body)) + frame.body
        if frame.type is not FrameType.PACKET:
            return [data]
        if self.random.random() < self.loss:
            self.lost += 1
            return []
        copies = 1
        if self.random.random() < self.duplicate:
            self.doubled += 1
            copies = 2
        if self.random.random() < self.reorder:
            self.reordered += 1
            self.clock.callLater(self.random.uniform(0, self.hold_up), deliver, data * copies)
            return []
        return [data] * copies
