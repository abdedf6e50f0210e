"""Networks by name: `~/.nym/networks/NAME.toml` says where a network's directories are and whose signatures count.

A network file holds nothing secret: who runs a network gives it to everybody. One network of a machine is in use:
commands mean it where nothing else is said.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nymtw.encoding import key_text, parse_key_text, to_cbor
from nymtw.errors import ConfigError, EncodingError
from nymtw.node.config import config_text, parse_config
from nymtw.node.directories.http_directory import check_directory_url
from nymtw.node.directories.trust import as_list, majority, read_trust
from nymtw.node.home import check_writers, nym_home, private_folder, write_file
from nymtw.topology.document import Trust

LOCALNET: Final = "localnet"
LOCAL_DIRECTORY: Final = "http://127.0.0.1:8080"
HEADING: Final = "A network of nymtw, for `nymtw network add NAME FILE`. Nothing in here is secret."
NONE_IN_USE: Final = (
    "no network is in use: 'nymtw network add NAME FILE-or-URL' adds one, 'nymtw localnet' starts one, or give "
    "--directory and --directory-key"
)
NETWORK_PATH: Final = "/network.toml"  # where a directory serves its network's file
LONGEST: Final = 64 * 2**10  # bytes of a network file
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST_BYTES: Final = 10  # 80 bits: who wants another file with a given digest needs 2**80 attempts


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[network]`."""

    directories: Annotated[
        list[str], Meta(min_length=1, max_length=100, description="The URLs of the network's directories.")
    ]
    keys: Annotated[
        list[str],
        Meta(min_length=1, max_length=100, description="The identity keys of all directories, 44 characters each."),
    ]
    threshold: Annotated[
        int, Meta(ge=0, description="How many of them must have signed the topology; 0: more than half.")
    ] = 0


class NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    network: NetworkSection


@dataclass(frozen=True, slots=True)
class Network:
    """Where a network's directories are, and whose signatures make a topology."""

    directories: tuple[str, ...]
    trust: Trust

    def text(self) -> str:
        """The network file."""
        section = NetworkSection(
            directories=list(self.directories),
            keys=[key_text(key) for key in self.trust.directories],
            threshold=self.trust.threshold,
        )
        return config_text(NetworkFile(network=section), HEADING)

    def digest(self) -> str:
        """80 bits of SHA-256 over what the file says, as four groups of four letters and digits to read aloud.

        Comments, order and layout of the file do not change it.
        """
        said = {
            "directories": sorted(self.directories),
            "keys": sorted(self.trust.directories),
            "threshold": self.trust.threshold,
        }
        head = hashlib.sha256(b"nymtw network file 1" + to_cbor(said)).digest()[:_DIGEST_BYTES]
        text = base64.b32encode(head).decode().lower()
        return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def same_digest(one: str, other: str) -> bool:
    """Whether two digests agree, however they are written: with or without dashes and blanks, in either case."""
    return _letters(one) == _letters(other)


def parse_network(content: bytes, name: str) -> Network:
    """The network in a file; `name` stands for it in errors. Raises `ConfigError`."""
    section = parse_config(content, NetworkFile, name).network
    try:
        urls = tuple(check_directory_url(url) for url in section.directories)
        keys = tuple(parse_key_text(key) for key in section.keys)
    except ConfigError as error:
        raise ConfigError(f"{name}: {str(error).removeprefix('--directory: ')}") from None
    except EncodingError as error:
        raise ConfigError(f"{name}: keys: {error}") from None
    if len(set(keys)) != len(keys) or len(set(urls)) != len(urls):
        raise ConfigError(f"{name}: a directory is named twice")
    if section.threshold > len(keys):
        raise ConfigError(f"{name}: threshold: {section.threshold} of {len(keys)} directories cannot sign")
    return Network(urls, Trust(keys, section.threshold or majority(len(keys))))


class Networks:
    """The networks that are known on this machine, in `BASE/networks`."""

    def __init__(self, base: Path | None = None) -> None:
        self.folder = (nym_home() if base is None else base) / "networks"
        self._current = self.folder / "current"

    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def load(self, name: str) -> Network:
        """The network of this name. Raises `ConfigError`."""
        path = self._path(name)
        for each in (self.folder, path):
            check_writers(each)
        try:
            with open(path, "rb") as file:
                content = file.read(LONGEST + 1)
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none"
            start = "start it with 'nymtw localnet'" if name == LOCALNET else f"there are: {known}"
            raise ConfigError(f"there is no network called {name!r}: {start}") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        return parse_network(content, str(path))

    def save(self, name: str, network: Network) -> None:
        """Keep it under this name, in the place of one that had it; in use, where none is. Raises `ConfigError`."""
        path = self._path(name)
        private_folder(self.folder)
        self._write(path, network.text())
        if not self.in_use():
            self.use(name)

    def use(self, name: str) -> None:
        """Have commands mean this network from now on. Raises `ConfigError`."""
        self.load(name)
        self._write(self._current, f"{name}\n")

    def in_use(self) -> str:
        """The name of the network in use; "" where there is none, or no longer."""
        try:
            name = self._current.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return name if _NAME.fullmatch(name) and self._path(name).exists() else ""

    def remove(self, name: str) -> None:
        """Forget it. Raises `ConfigError`."""
        self.load(name)
        try:
            self._path(name).unlink()
        except OSError as error:
            raise ConfigError(f"{self._path(name)}: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--network: {name!r:.80} is not 1 to 64 letters, digits, dots, dashes or underscores")
        return self.folder / f"{name}.toml"

    @staticmethod
    def _write(path: Path, text: str) -> None:
        try:
            write_file(path, text.encode())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None


def chosen_network(
    directories: str | Sequence[str], keys: str | Sequence[str], threshold: int, name: str, base: Path | None = None
) -> Network:
    """The network that a configuration means: by its keys, else the one called `name`, else the one in use.

    Directories or a threshold that are given take the place of those of a network that is called by name.
    Raises `ConfigError`, `KeyFileError`.
    """
    urls = tuple(check_directory_url(url) for url in _given(directories))
    if _given(keys):
        return Network(urls or (LOCAL_DIRECTORY,), read_trust(keys, threshold))
    networks = Networks(base)
    name = name or networks.in_use()
    if not name:
        raise ConfigError(f"--directory-key is needed with --directory: {NONE_IN_USE}" if urls else NONE_IN_USE)
    network = networks.load(name)
    trust = network.trust
    if threshold:
        trust = read_trust([key_text(key) for key in trust.directories], threshold)
    return Network(urls or network.directories, trust)


def settled(given: dict[str, Any], key: str) -> dict[str, Any]:
    """What a command line gives for a first start, with the name of the network in use where it names none.

    `key` is the name of the directories' keys. Raises `ConfigError` where there is no network at all.
    """
    if given.get(key) or given.get("network"):
        return given
    name = Networks().in_use()
    if not name:
        chosen_network(given.get("directory", ""), "", 0, "")  # raises, and says what there is to do
    return {**given, "network": name}


def _given(values: str | Sequence[str]) -> list[str]:
    return [value for value in as_list(values) if value]


def _letters(digest: str) -> str:
    return re.sub(r"[\s-]", "", digest).lower()
