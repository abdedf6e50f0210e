"""The home of a role: `~/.nym/<role>s/ID`, folders 0700, for one process at a time."""

import fcntl
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from nymtw.errors import ConfigError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def nym_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`NYMTW_HOME` if it is set, else `~/.nym`; absolute either way."""
    named = environ.get("NYMTW_HOME")
    return Path(named).absolute() if named else Path.home() / ".nym"


def private_folder(path: Path) -> Path:
    """Create `path` and what is missing above it, mode 0700. Raises `ConfigError` naming it."""
    try:
        # The mode of Path.mkdir holds for the last folder alone.
        for folder in (*reversed(path.parents), path):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise ConfigError(f"{path}: not a folder")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return path


def write_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, mode 0600: durably, and all of it or nothing. Raises `OSError`."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writers(path: Path) -> None:
    """Raises `ConfigError` where a file or folder can be written by others than this user and root."""
    try:
        status = path.stat()
    except OSError:
        return  # whoever reads it will say so
    # In a folder like /tmp nobody can take the place of what is somebody else's.
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid not in (os.geteuid(), 0) and not sticky:
        raise ConfigError(f"{path}: it belongs to another user, who could change it: chown it to the one who runs this")
    if status.st_mode & 0o022 and not sticky:
        raise ConfigError(
            f"{path}: others than its owner can write to it (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w it"
        )


class NodeHome:
    """The folder of one node or client, `BASE/<role>s/ID`.

    `config` holds keys and `config.toml`, `data` what the role stores. Nothing is created before `create`.
    """

    def __init__(self, role: str, name: str, base: Path | None = None) -> None:
        """`role` is "mixnode", "provider", "client", "directory"; `name` the id. Raises `ConfigError` for a bad id."""
        if not _ID.fullmatch(name):
            raise ConfigError(f"--id: {name!r:.80} is not 1 to 64 letters, digits, dots, dashes or underscores")
        self.role = role
        self.id = name
        self.path = (nym_home() if base is None else base) / _plural(role) / name
        self.config = self.path / "config"
        self.data = self.path / "data"
        self._lock: int | None = None

    @property
    def config_file(self) -> Path:
        """The path of `config.toml`."""
        return self.config / "config.toml"

    def create(self) -> None:
        """Make the folders that are missing, mode 0700. Raises `ConfigError`, also where others can write there."""
        for folder in (self.path, self.config, self.data):
            private_folder(folder)
        for folder in (self.path.parent.parent, self.path.parent, self.path, self.config, self.data):
            check_writers(folder)

    def lock(self) -> None:
        """Keep this home for this process until it ends, or until `unlock`. The home must exist.

        The lock passes on to the child when twistd makes a daemon of itself. Raises `ConfigError` if another process
        has it.
        """
        if self._lock is not None:
            return
        path = self.path / "lock"
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if descriptor is not None:
                os.close(descriptor)
            raise ConfigError(f"{self.path}: another process is using this folder") from None
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            raise ConfigError(f"{path}: {error.strerror}") from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Let another process have this home."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _plural(role: str) -> str:
    return f"{role[:-1]}ies" if role.endswith("ry") else f"{role}s"
