"""The places of a node whose role the directory assigns, kept across restarts. The first place in an epoch counts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from twisted.logger import Logger

from nymtw.errors import NymtwError
from nymtw.node.home import write_file
from nymtw.topology.document import NodeRecord, Place

FILE: Final = "places.json"
_LONGEST: Final = 4096  # bytes


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    network: str  # hexadecimal
    places: dict[int, Place]


class KeptPlaces:
    """The node's places in this network, by the key epoch with which they begin, as topologies have stated them."""

    log = Logger()

    def __init__(self, folder: Path, network: bytes) -> None:
        """`folder`: the node's data folder. An invalid file, or a file of another network, is ignored."""
        self._file = folder / FILE
        self._network = network.hex()
        self.places: Mapping[int, Place] = self._read()
        self._reported = ""

    def take(self, record: NodeRecord, epoch: int) -> Mapping[int, Place]:
        """Add the places from a topology of this epoch, and return all. Known places of an epoch do not change."""
        decided = [each for each in (epoch - 1, epoch) if record.places and min(record.places) <= each]
        decided += [epoch + 1] if record.places and epoch + 1 in record.places else []
        places = {each: place for each, place in self.places.items() if epoch - 1 <= each <= epoch + 1}
        for each in decided:
            place = record.place(each)
            if place and places.setdefault(each, place) != place:
                self._report(
                    f"the topology has moved this node within key epoch {each}, from {places[each]} to {place}: it "
                    f"stays, and takes the packets of both"
                )
        self._keep(places)
        return places

    def forget_before(self, epoch: int) -> Mapping[int, Place]:
        """Forget the places of earlier epochs, after a topology of this epoch without the node. Returns the rest."""
        self._keep(self.places if any(each >= epoch for each in self.places) else {})
        return self.places

    def _read(self) -> Mapping[int, Place]:
        try:
            with open(self._file, "rb") as file:
                kept = msgspec.json.decode(file.read(_LONGEST), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return kept.places if kept.network == self._network else {}

    def _keep(self, places: Mapping[int, Place]) -> None:
        if places == self.places:
            return
        self.places = places
        try:
            write_file(self._file, msgspec.json.encode(_Kept(self._network, dict(places))))
        except (OSError, NymtwError) as error:
            self._report(f"the places of this node cannot be kept: {error}")

    def _report(self, trouble: str) -> None:
        if trouble != self._reported:
            self._reported = trouble
            self.log.error("{trouble}", trouble=trouble)
