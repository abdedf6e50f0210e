"""What an isolated implementation cannot reach: the folder of all homes but its own part, and its node's memory.

Landlock (Linux 5.13, landlock(7)) forbids files to a process that asks for it, for ever and for all its children.
"""

import ctypes
import os
import stat
import struct
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every architecture
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_ALL: Final = (1 << 13) - 1  # every right of the first version: execute, read, write, remove, make
_OF_FILES: Final = 0b111  # execute, write, read
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def hide_memory() -> None:
    """Let no other process of this user trace this one or read its memory (prctl(2), PR_SET_DUMPABLE)."""
    _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def is_available() -> bool:
    """Whether this system has Landlock."""
    return bool(_libc().syscall(_CREATE, None, 0, _VERSION) > 0)


def allowed(forbidden: Path, own: Path) -> list[Path]:
    """What to allow so that all but `forbidden` is, and `own` in it: `own`, and each sibling on the way to the root."""
    found = [own]
    place = forbidden
    while place != place.parent:
        try:
            found += [each for each in place.parent.iterdir() if each != place and not each.is_symlink()]
        except OSError:
            pass  # a folder that this user cannot list stays closed
        place = place.parent
    return found


def forbid(forbidden: Path, own: Path) -> bool:
    """Forbid this process everything in `forbidden` but `own`. False where the system cannot do it."""
    if not is_available():
        return False
    libc = _libc()
    rights = struct.pack("=Q", _ALL)
    ruleset = libc.syscall(_CREATE, rights, len(rights), 0)
    if ruleset < 0:
        return False
    try:
        for path in allowed(forbidden.resolve(), own.resolve()):
            _allow(libc, ruleset, path)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _ALL if stat.S_ISDIR(os.fstat(descriptor).st_mode) else _OF_FILES
        libc.syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
