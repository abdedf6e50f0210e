"""Key files: PEM with 32 raw bytes inside, mode 0600; a node's identity, and its Sphinx keys for each key epoch."""

import base64
import binascii
import os
import re
import stat
from enum import Enum
from pathlib import Path
from random import Random

import nacl.bindings
import nacl.signing

from nymtw.encoding import KEY_LENGTH, parse_key_text
from nymtw.errors import EncodingError, KeyFileError
from nymtw.node.home import NodeHome, private_folder, sync_folder, write_file

_FILE_LIMIT = 4096
_EPOCHS = 1 << 32  # a frame has 32 bits for the key epoch
_KEY_FILE = re.compile(r"([0-9]{1,10})(?:\.([1-9][0-9]{0,8}))?")
_PEM = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n([A-Za-z0-9+/=\r\n]*?)\r?\n?-----END ([A-Z0-9 ]{1,64})-----\r?\n?"
)


class KeyKind(Enum):
    """The purpose of a key; the value is the PEM type without PRIVATE KEY or PUBLIC KEY."""

    SPHINX = "SPHINX CURVE25519"
    IDENTITY = "ED25519"


def save_private(path: Path, kind: KeyKind, key: bytes) -> None:
    """Write a private key (32 bytes), mode 0600, durably. Raises `KeyFileError`."""
    _save(path, f"{kind.value} PRIVATE KEY", key)


def save_public(path: Path, kind: KeyKind, key: bytes) -> None:
    """Write a public key (32 bytes), mode 0600 like everything else in a home. Raises `KeyFileError`."""
    _save(path, f"{kind.value} PUBLIC KEY", key)


def load_private(path: Path, kind: KeyKind) -> bytes:
    """The 32 bytes of a private key.

    Raises `KeyFileError` naming the file if it is missing, of another type or length, has more in it than the key, or
    can be read by others than its owner.
    """
    return _load(path, f"{kind.value} PRIVATE KEY", secret=True)


def load_public(path: Path, kind: KeyKind) -> bytes:
    """The 32 bytes of a public key. Raises `KeyFileError` like `load_private`, but anybody may read the file."""
    return _load(path, f"{kind.value} PUBLIC KEY", secret=False)


def read_directory_key(text: str) -> bytes:
    """The directory's identity key (32 bytes) from `--directory-key`: 44 characters, or the path of its PEM file.

    Raises `KeyFileError`.
    """
    try:
        return parse_key_text(text)
    except EncodingError:
        pass
    path = Path(text)
    if len(text) == 44 and not path.exists():
        raise KeyFileError(f"--directory-key: {text!r} is neither a key nor the path of a key file")
    return load_public(path, KeyKind.IDENTITY)


def load_or_create_identity(home: NodeHome) -> nacl.signing.SigningKey:
    """The node's Ed25519 identity, in `config/identity_private_key.pem` and `config/identity_public_key.pem`.

    Both are made at the first start. A file that is missing later is an error, and so are two that do not belong
    together. Raises `KeyFileError`.
    """
    private, public = home.config / "identity_private_key.pem", home.config / "identity_public_key.pem"
    if not private.exists() and not public.exists():
        key = nacl.signing.SigningKey.generate()
        save_private(private, KeyKind.IDENTITY, bytes(key))
        save_public(public, KeyKind.IDENTITY, bytes(key.verify_key))
        return key
    key = nacl.signing.SigningKey(load_private(private, KeyKind.IDENTITY))
    if not public.exists():
        # The public file is written second: a process that was killed in between left only the first.
        save_public(public, KeyKind.IDENTITY, bytes(key.verify_key))
    if load_public(public, KeyKind.IDENTITY) != bytes(key.verify_key):
        raise KeyFileError(f"{public}: not the public key that belongs to {private.name}")
    return key


def epoch_of(number: int) -> int:
    """The key epoch of the key with this number."""
    return number % _EPOCHS


class KeyRing:
    """The Sphinx key pairs (X25519) of one node, in `data/sphinx_keys/EPOCH.pem`.

    A key that takes the place of another within its epoch is in `EPOCH.GENERATION.pem`. Every key has a number: its
    epoch + 2**32 times its generation, which is 0 for the first one.
    """

    def __init__(self, home: NodeHome, random: Random) -> None:
        """Reads the keys that are there. `random` is asked for 32 bytes per new key. Raises `KeyFileError`."""
        self._folder = private_folder(home.data / "sphinx_keys")
        self._random = random
        self._private: dict[int, bytes] = {}
        self._newest: dict[int, int] = {}  # epoch -> number
        for path in sorted(self._folder.glob("*.pem")):
            name = _KEY_FILE.fullmatch(path.stem)
            if name is None:
                raise KeyFileError(f"{path}: a Sphinx key file is called EPOCH.pem")
            self._keep(int(name[1]) + int(name[2] or 0) * _EPOCHS, load_private(path, KeyKind.SPHINX))

    def for_epoch(self, epoch: int) -> bytes:
        """The public key of `epoch`, made and stored if there was none. Raises `KeyFileError`."""
        if epoch not in self._newest:
            self._make(epoch)
        return self.public_keys()[epoch]

    def advance(self, epoch: int) -> None:
        """Have the keys of `epoch` and the next one; destroy all older than the previous one. Raises `KeyFileError`."""
        self.for_epoch(epoch)
        self.for_epoch(epoch + 1)
        for number in sorted(number for number in self._private if epoch_of(number) < epoch - 1):
            self.destroy(number)

    def renew(self, epoch: int) -> None:
        """Put a new key in the place of the one of `epoch`, which can be used until it is destroyed.

        Raises `KeyFileError`.
        """
        self._make(self._newest[epoch] + _EPOCHS)

    def destroy(self, number: int) -> None:
        """Overwrite and unlink this key. Raises `KeyFileError`."""
        _destroy(self._path(number))
        del self._private[number]
        if self._newest[epoch_of(number)] == number:
            del self._newest[epoch_of(number)]

    def newest(self, epoch: int) -> int:
        """The number of the key to announce for `epoch`; `epoch` itself where there is none yet."""
        return self._newest.get(epoch, epoch)

    def superseded(self) -> list[int]:
        """The numbers of keys in whose place there is a newer one, the oldest first."""
        return sorted(number for number in self._private if self._newest[epoch_of(number)] != number)

    def private_keys(self) -> dict[int, bytes]:
        """Number -> private key (32 bytes) of every key there is."""
        return dict(self._private)

    def public_keys(self) -> dict[int, bytes]:
        """Epoch -> public key (32 bytes) to announce."""
        return {
            epoch: nacl.bindings.crypto_scalarmult_base(self._private[number]) for epoch, number in self._newest.items()
        }

    def _make(self, number: int) -> None:
        private = self._random.randbytes(KEY_LENGTH)
        save_private(self._path(number), KeyKind.SPHINX, private)
        self._keep(number, private)

    def _keep(self, number: int, private: bytes) -> None:
        self._private[number] = private
        epoch = epoch_of(number)
        self._newest[epoch] = max(number, self._newest.get(epoch, number))

    def _path(self, number: int) -> Path:
        generation = number // _EPOCHS
        return self._folder / (f"{epoch_of(number)}.{generation}.pem" if generation else f"{number}.pem")


def _save(path: Path, label: str, key: bytes) -> None:
    if len(key) != KEY_LENGTH:
        raise KeyFileError(f"{path}: a key is {KEY_LENGTH} bytes, not {len(key)}")
    save_pem(path, label, key)


def _load(path: Path, label: str, secret: bool) -> bytes:
    key = load_pem(path, label, secret, _FILE_LIMIT)
    if len(key) != KEY_LENGTH:
        raise KeyFileError(f"{path}: its key has {len(key)} bytes, where {KEY_LENGTH} are wanted")
    return key


def save_pem(path: Path, label: str, key: bytes) -> None:
    """Write a key of any length as PEM of this type, mode 0600, durably. Raises `KeyFileError`."""
    text = f"-----BEGIN {label}-----\n{base64.b64encode(key).decode()}\n-----END {label}-----\n"
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None


def load_pem(path: Path, label: str, secret: bool, limit: int) -> bytes:
    """The key of this PEM type in a file of at most `limit` bytes. Raises `KeyFileError` like `load_private`."""
    try:
        # O_NONBLOCK: a pipe in a key file's place must not make the start hang.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path}: not a file")
            content = file.read(limit + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    if secret and status.st_mode & 0o077:
        raise KeyFileError(
            f"{path}: users other than its owner can read it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 it"
        )
    match = _PEM.match(content)
    if match is None or match[1] != match[3]:
        raise KeyFileError(f"{path}: not a PEM key file")
    if match[1].decode() != label:
        raise KeyFileError(f"{path}: its type is {match[1].decode()}, where {label} is wanted")
    try:
        key = base64.b64decode(b"".join(match[2].split()), validate=True)
    except binascii.Error:
        raise KeyFileError(f"{path}: not a PEM key file: its base64 is broken") from None
    if match.end() != len(content):
        raise KeyFileError(f"{path}: there is data after the key")
    return key


def _destroy(path: Path) -> None:
    """Overwrite and unlink. Whether the disk keeps an old copy is beyond a program's reach."""
    try:
        with open(path, "r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
