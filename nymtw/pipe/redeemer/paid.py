"""Which withdrawals are paid on Ethereum, deep enough in the chain, in a file."""

import json
from pathlib import Path
from typing import Final

import msgspec

from nymtw.errors import ConfigError, DiskError
from nymtw.node.home import write_file

_LIMIT: Final = 2**24  # bytes


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    below: int = 0
    above: list[int] = []


class Paid:
    """All up to `below`, and those in `above`. Without its file it asks Ethereum about all of them once more."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError` for a file that cannot be read."""
        self._path = path
        kept = _Kept()
        if path.exists():
            try:
                content = path.read_bytes()
                if len(content) > _LIMIT:
                    raise ValueError("too long")
                kept = msgspec.json.decode(content, type=_Kept)
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path}: {error}: it can be removed") from None
        self.below = kept.below
        self.above = set(kept.above)

    def add(self, number: int) -> None:
        """This one is paid. Raises `DiskError`."""
        self.above.add(number)
        while self.below + 1 in self.above:
            self.below += 1
            self.above.remove(self.below)
        try:
            write_file(self._path, json.dumps({"below": self.below, "above": sorted(self.above)}).encode())
        except OSError as error:
            raise DiskError(f"{self._path}: {error.strerror}") from None
