"""The places of a node whose role the directory decides, kept across restarts. Of an epoch the first counts."""

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
    """From a key epoch on -> where the node works, in this network, as topologies have stated it."""

    log = Logger()

    def __init__(self, folder: Path, network: bytes) -> None:
        """`folder` is the node's data folder. A file that is none, or of another network, is none."""
        self._file = folder / FILE
        self._network = network.hex()
        self.places: Mapping[int, Place] = self._read()
        self._said = ""

    def take(self, listed: NodeRecord, epoch: int) -> Mapping[int, Place]:
        """The places now that a topology of this epoch lists the node so: what is known of an epoch stands."""
        decided = [each for each in (epoch - 1, epoch) if listed.places and min(listed.places) <= each]
        decided += [epoch + 1] if listed.places and epoch + 1 in listed.places else []
        places = {each: place for each, place in self.places.items() if epoch - 1 <= each <= epoch + 1}
        for each in decided:
            place = listed.place(each)
            if place and places.setdefault(each, place) != place:
                self._say(
                    f"the topology has moved this node within key epoch {each}, from {places[each]} to {place}: it "
                    f"stays, and takes the packets of both"
                )
        self._keep(places)
        return places

    def forget_before(self, epoch: int) -> Mapping[int, Place]:
        """The places now that a topology of this epoch does not list the node: those of earlier epochs are over."""
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
            self._say(f"the places of this node cannot be kept: {error}")

    def _say(self, trouble: str) -> None:
        if trouble != self._said:
            self._said = trouble
            self.log.error("{trouble}", trouble=trouble)
