"""The replay guard: remembers the tag of every packet, per key epoch, and survives kill -9.

Each epoch has an append-only file of 16-byte tags and, in memory, a Bloom filter for `capacity` tags that grows as they
come. A packet may leave once `flush` has returned: `write` has taken its tag, so a killed process finds it again.
`sync` makes the tags survive a loss of power as well; what was flushed since the last `sync` may be lost then.
"""

import os
from pathlib import Path
from typing import Final

from rbloom import Bloom

from nymtw.errors import DiskError, ReplayGuardFull

TAG_LENGTH: Final = 16
MAGIC: Final = b"nymtw replay v1\n"  # as long as a tag, so that records stay aligned
NEARLY_FULL: Final = 0.75
PENDING_LIMIT: Final = 1 << 20  # tags that may wait for a disk that refuses them
_CHUNK: Final = TAG_LENGTH << 16
_FIRST: Final = 1 << 16  # tags in the first part of a filter
_GROWTH: Final = 4  # how many times as many are in the next one


class _GrowingFilter:
    """A Bloom filter for `capacity` tags in parts, each made when those before it are full (Almeida et al., Scalable
    Bloom Filters, 2007): it takes memory for what has come and not for what may.

    A part's error rate is its share of the whole, so that all together err as often as one filter would.
    """

    def __init__(self, capacity: int, false_positive: float) -> None:
        self._capacity = capacity
        self._false_positive = false_positive
        self._parts: list[Bloom] = []
        self._made = 0  # tags that the parts are for
        self._room = 0  # tags that the last part still takes

    def __contains__(self, tag: bytes) -> bool:
        return any(tag in part for part in self._parts)

    def add(self, tag: bytes) -> None:
        """Remember a tag. There is room for `capacity` of them."""
        if not self._room:
            self._grow()
        self._parts[-1].add(tag)
        self._room -= 1

    def _grow(self) -> None:
        size = _FIRST * _GROWTH ** len(self._parts)
        left = self._capacity - self._made
        if left < 2 * size:  # no part for the few that would be left
            size = max(left, 1)
        self._parts.append(Bloom(size, self._false_positive * size / max(self._capacity, size)))
        self._made += size
        self._room = size


class _Epoch:
    """The tags of one key epoch."""

    def __init__(self, path: Path | None, capacity: int, false_positive: float) -> None:
        self.capacity = capacity
        self.path = path
        self.count = 0
        self.pending = bytearray()
        self.unsynced = False
        self.new = False  # the folder may not know the file after a loss of power
        self.file: int | None = None
        self.length = len(MAGIC)  # of the part of the file that is known to be whole
        on_disk = 0
        if path is not None:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            on_disk = max(0, os.fstat(self.file).st_size - len(MAGIC)) // TAG_LENGTH
        # More tags on disk than `capacity`: it was lowered. The filter keeps its error rate, and nothing new is taken.
        self.filter = _GrowingFilter(max(capacity, on_disk, 1), false_positive)
        if self.file is not None:
            self._read_back(self.file, on_disk)

    def _read_back(self, file: int, tags: int) -> None:
        magic = os.pread(file, len(MAGIC), 0)
        if len(magic) < len(MAGIC):  # new, or killed while it was made: no tag was ever written
            write_at(file, MAGIC, 0)
            self.new = self.unsynced = True
        elif magic != MAGIC:
            raise DiskError(f"{self.path}: not a file of replay tags")
        end = self.length + tags * TAG_LENGTH
        while self.length < end:
            data = os.pread(file, min(_CHUNK, end - self.length), self.length)
            whole = len(data) - len(data) % TAG_LENGTH
            if not whole:
                raise DiskError(f"{self.path}: ends before its length")
            for start in range(0, whole, TAG_LENGTH):
                self.filter.add(data[start : start + TAG_LENGTH])
            self.length += whole
        self.count = tags

    def flush(self) -> None:
        if not self.pending or self.file is None:
            self.pending.clear()
            return
        # Always at the end of the whole part: a torn write before is overwritten with the same bytes.
        # A copy: a view of `pending` that outlives an error, in a traceback somebody keeps, would forbid it to grow.
        write_at(self.file, bytes(self.pending), self.length)
        self.length += len(self.pending)
        self.pending.clear()
        self.unsynced = True

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


def write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of `data`; `pwrite` may take less than it is given. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make new files in `folder` survive a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ReplayGuard:
    """Tells fresh packets from replays, for several key epochs.

    What is called an epoch here is any number that stands for one key. `capacity`: tags per epoch. `false_positive`:
    the share of fresh packets taken for replays when full. `folder`: where the files are (mode 0700, created); None
    keeps everything in memory. Raises `DiskError`.
    """

    def __init__(self, folder: Path | None, *, capacity: int, false_positive: float = 1e-5) -> None:
        self._folder = folder
        self._capacity = capacity
        self._false_positive = false_positive
        self._epochs: dict[int, _Epoch] = {}
        if folder is None:
            return
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in folder.glob("replay-*.tags"):
                number = path.name[len("replay-") : -len(".tags")]
                if number.isdecimal():
                    self._open(int(number))
        except OSError as error:
            raise DiskError(f"{folder}: cannot read the replay tags: {error.strerror}") from None

    @property
    def capacity(self) -> int:
        """The most tags of an epoch whose first tag is yet to come; epochs that have some keep their size."""
        return self._capacity

    @capacity.setter
    def capacity(self, tags: int) -> None:
        self._capacity = tags

    @property
    def epochs(self) -> list[int]:
        """The epochs for which tags are held."""
        return sorted(self._epochs)

    def fresh(self, epoch: int, tag: bytes) -> bool:
        """True where `tag` (16 bytes or more, of which 16 count) is new in `epoch`; from now on it is not.

        Raises `ReplayGuardFull` where no more tags can be held, `DiskError` where the epoch's file cannot be made.
        """
        held = self._epochs.get(epoch) or self._open(epoch)
        tag = tag[:TAG_LENGTH]
        if tag in held.filter:
            return False
        if held.count >= held.capacity or len(held.pending) >= PENDING_LIMIT * TAG_LENGTH:
            raise ReplayGuardFull
        held.filter.add(tag)
        held.count += 1
        if held.file is not None:
            held.pending += tag
        return True

    def flush(self) -> None:
        """Write all new tags, one write for each epoch; then they survive kill -9.

        Raises `DiskError` where the disk refuses: no packet whose tag was new since the last `flush` may leave. The
        tags are kept and written by a later `flush`.
        """
        try:
            for held in self._epochs.values():
                if held.pending:
                    held.flush()
        except OSError as error:
            raise DiskError(f"{self._folder}: cannot write replay tags: {error.strerror}") from None

    def sync(self) -> None:
        """Make what was flushed survive a loss of power. Raises `DiskError`."""
        try:
            for held in self._epochs.values():
                if held.unsynced and held.file is not None:
                    os.fdatasync(held.file)
                    if held.path is not None and held.new:
                        sync_folder(held.path.parent)
                        held.new = False
                    held.unsynced = False
        except OSError as error:
            raise DiskError(f"{self._folder}: cannot sync replay tags: {error.strerror}") from None

    def count(self, epoch: int) -> int:
        """How many tags are held for `epoch`."""
        held = self._epochs.get(epoch)
        return held.count if held else 0

    def room(self, epoch: int) -> int:
        """How many more tags of `epoch` can be held."""
        held = self._epochs.get(epoch)
        return max(0, held.capacity - held.count) if held else self._capacity

    def nearly_full(self, epoch: int) -> bool:
        """Whether three quarters of the capacity are taken: time for an early rotation."""
        held = self._epochs.get(epoch)
        return held is not None and held.count >= NEARLY_FULL * held.capacity

    def forget(self, epoch: int) -> None:
        """Drop the tags of an epoch whose key is destroyed, and their file."""
        held = self._epochs.pop(epoch, None)
        if held is not None:
            held.close()
            if held.path is not None:
                held.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write and sync what is pending, and close the files. Raises `DiskError`, the files closed all the same."""
        try:
            self.flush()
            self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files and write nothing more, as the end of a killed process does."""
        for held in self._epochs.values():
            held.close()
        self._epochs.clear()

    def _open(self, epoch: int) -> _Epoch:
        path = None if self._folder is None else self._folder / f"replay-{epoch}.tags"
        try:
            held = _Epoch(path, self._capacity, self._false_positive)
        except OSError as error:
            raise DiskError(f"{path}: cannot open the replay tags: {error.strerror}") from None
        self._epochs[epoch] = held
        return held
