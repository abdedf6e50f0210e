"""What an observer of links has written down: rows, and beside each the truth that only the simulation knows."""

import csv
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final


class Direction(IntEnum):
    """Which kind of link a row is of. KEPT is no link: what an edge puts into a mailbox, or discards."""

    UP = 0  # client to edge
    IN = 1  # edge to layer 1
    ACROSS = 2  # between mixnodes
    OUT = 3  # layer 3 to edge
    DOWN = 4  # edge to client
    KEPT = 5  # edge to mailbox


class Kind(IntEnum):
    """What a packet is in truth. OTHER: frames that are no packets, and what nobody knows."""

    OTHER = 0
    REAL = 1
    DROP = 2
    LOOP = 3
    ACK = 4
    REPLY = 5
    DUMMY = 6


# Size classes besides those of packets (0 to 4): frames of the client's line, and everything else.
PULL: Final = 16
MAIL: Final = 17
CONTROL: Final = 18

COLUMNS: Final = ("time", "source", "target", "size_class", "direction", "packet", "hop", "delay", "kind")


@dataclass(slots=True)
class Rows:
    """Columns of equal length, one entry for each frame on a link.

    Seen: `time` in seconds, `source` and `target` (indices into `names`), `size_class`, `direction` (`Direction`).
    Truth: `packet` (a number, -1 for none), `hop` (0 from the client to its edge), `delay` in seconds that the sender
    drew for the node which sent this frame, `kind` (`Kind`). A column is an `array`, or a NumPy array.
    """

    names: list[str] = field(default_factory=list)
    time: Any = field(default_factory=lambda: array("d"))
    source: Any = field(default_factory=lambda: array("h"))
    target: Any = field(default_factory=lambda: array("h"))
    size_class: Any = field(default_factory=lambda: array("b"))
    direction: Any = field(default_factory=lambda: array("b"))
    packet: Any = field(default_factory=lambda: array("q"))
    hop: Any = field(default_factory=lambda: array("b"))
    delay: Any = field(default_factory=lambda: array("d"))
    kind: Any = field(default_factory=lambda: array("b"))
    _numbers: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.time)

    def index(self, name: str) -> int:
        """The number of a node or client; it gets one if it has none."""
        if len(self._numbers) != len(self.names):
            self._numbers = {known: number for number, known in enumerate(self.names)}
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]

    def columns(self, truth: bool = True) -> dict[str, Any]:
        """The columns by name; without `truth` only what an observer sees."""
        return {name: getattr(self, name) for name in (COLUMNS if truth else COLUMNS[:5])}

    def write_csv(self, path: Path, truth: bool = True) -> None:
        """Write a header and one line a row, nodes by name. Raises `OSError`."""
        columns = self.columns(truth)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(self._shown(name, values) for name, values in columns.items()), strict=True))

    def write_parquet(self, path: Path, truth: bool = True) -> None:
        """Write the same as Apache Parquet. Raises `OSError`, and `ImportError` without the extra `lab`."""
        import pyarrow
        import pyarrow.parquet

        columns = {name: pyarrow.array(list(self._shown(name, values))) for name, values in self.columns(truth).items()}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)

    def _shown(self, name: str, values: Sequence[Any]) -> Iterable[Any]:
        if name in ("source", "target"):
            return (self.names[number] for number in values)
        return values.tolist() if hasattr(values, "tolist") else values

    @classmethod
    def read_csv(cls, path: Path) -> "Rows":
        """What `write_csv` wrote, truth or not. Raises `OSError`, `ValueError`."""
        rows = cls()
        with open(path, newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                for name in ("source", "target"):
                    getattr(rows, name).append(rows.index(line[name]))
                rows.time.append(float(line["time"]))
                for name in ("size_class", "direction"):
                    getattr(rows, name).append(int(line[name]))
                rows.packet.append(int(line.get("packet", -1)))
                rows.hop.append(int(line.get("hop", -1)))
                rows.delay.append(float(line.get("delay", "nan")))
                rows.kind.append(int(line.get("kind", Kind.OTHER)))
        return rows
