"""A file as a message: a small header with its name, then its bytes. Pure, but for `save`.

The header: the 12 bytes `nymtw file 1`, the length of the name (2 bytes, big-endian), the name in UTF-8.
"""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nymtw.errors import EncodingError

MAGIC: Final = b"nymtw file 1"
LONGEST_NAME: Final = 255  # bytes, as file systems have it
UNNAMED: Final = "unnamed"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file to send: `name` as the sender has it, `content`."""

    name: str
    content: bytes

    def encode(self) -> bytes:
        name = self.name.encode("utf-8", "replace")
        return b"".join((MAGIC, len(name).to_bytes(2, "big"), name, self.content))


def parse_file(message: bytes) -> NamedFile:
    """The file in a message. Raises `EncodingError`. The name is the sender's word: see `safe_name`."""
    start = len(MAGIC) + 2
    if message[: len(MAGIC)] != MAGIC or len(message) < start:
        raise EncodingError("the message is not a file")
    end = start + int.from_bytes(message[len(MAGIC) : start], "big")
    if len(message) < end:
        raise EncodingError("the message ends within the name of its file")
    return NamedFile(message[start:end].decode("utf-8", "replace"), message[end:])


def safe_name(name: str) -> str:
    """A name that stays in its folder, is visible and can be printed, whatever the sender called the file."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    # C: control characters, and those that turn the direction of the text.
    printable = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    visible = printable.strip().lstrip(".").strip()
    stem, dot, suffix = visible.rpartition(".")
    if not dot or len(suffix.encode()) > 20:
        stem, suffix = visible, ""
    return _cut(stem, LONGEST_NAME - len((dot + suffix).encode())) + (dot + suffix if suffix else "") or UNNAMED


def save(folder: Path, file: NamedFile) -> Path:
    """Write the file into `folder` under its safe name, numbered if that is taken; returns where."""
    stem, suffix = os.path.splitext(safe_name(file.name))
    number = 1
    while True:
        count = "" if number == 1 else f" ({number})"
        path = folder / (_cut(stem, LONGEST_NAME - len((count + suffix).encode())) + count + suffix)
        try:
            with open(path, "xb") as output:
                output.write(file.content)
            return path
        except FileExistsError:
            number += 1


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, whole letters only."""
    return text.encode()[:limit].decode("utf-8", "ignore")
