"""Key files: what is written, and every way in which one can be wrong."""

import base64
import random
import stat
from pathlib import Path

import nacl.bindings
import pytest

from nymtw.encoding import key_text
from nymtw.errors import KeyFileError
from nymtw.node.home import NodeHome
from nymtw.node.keys import (
    KeyKind,
    KeyRing,
    load_or_create_identity,
    load_private,
    load_public,
    read_directory_key,
    save_private,
    save_public,
)

pytestmark = pytest.mark.pythons

KEY = bytes(range(32))


def pem(label: str = "SPHINX CURVE25519 PRIVATE KEY", key: bytes = KEY, end: str | None = None) -> str:
    return f"-----BEGIN {label}-----\n{base64.b64encode(key).decode()}\n-----END {end or label}-----\n"


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome("mixnode", "one", tmp_path)
    home.create()
    return home


def test_a_key_comes_back(tmp_path: Path) -> None:
    private, public = tmp_path / "private_key.pem", tmp_path / "public_key.pem"
    save_private(private, KeyKind.SPHINX, KEY)
    save_public(public, KeyKind.SPHINX, KEY)
    assert private.read_text() == pem()
    assert public.read_text() == pem("SPHINX CURVE25519 PUBLIC KEY")
    assert load_private(private, KeyKind.SPHINX) == load_public(public, KeyKind.SPHINX) == KEY
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "not a PEM key file"),
        ("hello", "not a PEM key file"),
        (pem("SPHINX CURVE25519 PUBLIC KEY"), "its type is SPHINX CURVE25519 PUBLIC KEY"),
        (pem("ED25519 PRIVATE KEY"), "its type is ED25519 PRIVATE KEY, where SPHINX CURVE25519 PRIVATE KEY is wanted"),
        (pem(end="ED25519 PRIVATE KEY"), "not a PEM key file"),
        (pem(key=KEY[:31]), "31 bytes"),
        (pem(key=KEY + b"x"), "33 bytes"),
        (pem(key=b""), "0 bytes"),
        (pem() + "more", "after the key"),
        (pem() + pem(), "after the key"),
        ("before\n" + pem(), "not a PEM key file"),
        (pem().replace("=", ""), "base64 is broken"),
        ("\0" * 10_000, "not a PEM key file"),
    ],
)
def test_a_wrong_file_is_named_with_its_cause(tmp_path: Path, content: str, cause: str) -> None:
    path = tmp_path / "private_key.pem"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=cause) as caught:
        load_private(path, KeyKind.SPHINX)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"missing\.pem: No such file"):
        load_private(tmp_path / "missing.pem", KeyKind.SPHINX)
    with pytest.raises(KeyFileError, match="Is a directory"):
        load_private(tmp_path, KeyKind.SPHINX)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_private_key_is_for_its_owner(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    save_private(path, KeyKind.SPHINX, KEY)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}"):
        load_private(path, KeyKind.SPHINX)


def test_anybody_may_read_a_public_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_public(path, KeyKind.SPHINX, KEY)
    path.chmod(0o644)
    assert load_public(path, KeyKind.SPHINX) == KEY


def test_a_key_that_is_not_32_bytes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="31"):
        save_private(tmp_path / "key.pem", KeyKind.SPHINX, KEY[:31])
    assert not list(tmp_path.iterdir())


def test_an_identity_stays(home: NodeHome) -> None:
    first = load_or_create_identity(home)
    assert bytes(load_or_create_identity(home)) == bytes(first)


def test_an_identity_whose_private_half_is_missing_is_not_made_anew(home: NodeHome) -> None:
    load_or_create_identity(home)
    (home.config / "identity_private_key.pem").unlink()
    with pytest.raises(KeyFileError, match="identity_private_key"):
        load_or_create_identity(home)


def test_a_killed_first_start_is_finished(home: NodeHome) -> None:
    first = load_or_create_identity(home)
    (home.config / "identity_public_key.pem").unlink()
    load_or_create_identity(home)
    assert load_public(home.config / "identity_public_key.pem", KeyKind.IDENTITY) == bytes(first.verify_key)


def test_halves_of_two_identities_are_told(home: NodeHome) -> None:
    load_or_create_identity(home)
    save_public(home.config / "identity_public_key.pem", KeyKind.IDENTITY, KEY)
    with pytest.raises(KeyFileError, match="belongs to identity_private_key"):
        load_or_create_identity(home)


def test_the_directorys_key_is_text_or_file(tmp_path: Path) -> None:
    path = tmp_path / "directory.pem"
    save_public(path, KeyKind.IDENTITY, KEY)
    assert read_directory_key(key_text(KEY)) == read_directory_key(str(path)) == KEY
    with pytest.raises(KeyFileError, match="neither a key nor"):
        read_directory_key("!" * 44)
    with pytest.raises(KeyFileError, match=r"nowhere\.pem"):
        read_directory_key(str(tmp_path / "nowhere.pem"))


def test_a_ring_keeps_current_previous_and_next(home: NodeHome) -> None:
    ring = KeyRing(home, random.Random(1))
    ring.advance(10)
    assert set(ring.public_keys()) == {10, 11}
    eleventh = ring.public_keys()[11]
    ring.advance(11)
    assert set(ring.public_keys()) == {10, 11, 12}
    assert ring.public_keys()[11] == eleventh
    ring.advance(12)
    assert set(ring.private_keys()) == {11, 12, 13}
    assert sorted(path.name for path in (home.data / "sphinx_keys").iterdir()) == ["11.pem", "12.pem", "13.pem"]
    for epoch, private in ring.private_keys().items():
        assert nacl.bindings.crypto_scalarmult_base(private) == ring.public_keys()[epoch]


def test_a_ring_survives_a_restart(home: NodeHome) -> None:
    ring = KeyRing(home, random.Random(1))
    ring.advance(10)
    again = KeyRing(home, random.Random(2))
    again.advance(10)
    assert again.private_keys() == ring.private_keys()


def test_a_file_that_is_no_epochs_key_is_named(home: NodeHome) -> None:
    KeyRing(home, random.Random(1))
    (home.data / "sphinx_keys" / "mine.pem").write_text("")
    with pytest.raises(KeyFileError, match=r"mine\.pem"):
        KeyRing(home, random.Random(1))
