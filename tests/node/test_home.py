"""The home folder: where it is, who may read it, and that one process has it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nymtw.errors import ConfigError
from nymtw.node.home import NodeHome, nym_home, private_folder, write_file

pytestmark = pytest.mark.pythons


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nymtw_home_moves_everything() -> None:
    assert nym_home({"NYMTW_HOME": "/srv/nym"}) == Path("/srv/nym")
    assert nym_home({}) == Path.home() / ".nym"
    assert nym_home({"NYMTW_HOME": "relative"}).is_absolute()


@pytest.mark.parametrize(
    ("role", "folder"),
    [
        ("mixnode", "mixnodes"),
        ("provider", "providers"),
        ("client", "clients"),
        ("directory", "directories"),
        ("gateway", "gateways"),
    ],
)
def test_a_role_has_its_folder(tmp_path: Path, role: str, folder: str) -> None:
    assert NodeHome(role, "one", tmp_path).path == tmp_path / folder / "one"


def test_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    home = NodeHome("mixnode", "one", tmp_path / "base")
    home.create()
    for folder in (tmp_path / "base", tmp_path / "base" / "mixnodes", home.path, home.config, home.data):
        assert mode(folder) == 0o700
    home.create()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\nb", "a" * 65, "ä"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--id"):
        NodeHome("mixnode", name, tmp_path)


def test_two_cannot_have_one_home(tmp_path: Path) -> None:
    first, second = NodeHome("mixnode", "one", tmp_path), NodeHome("mixnode", "one", tmp_path)
    first.create()
    first.lock()
    first.lock()
    with pytest.raises(ConfigError, match=f"{first.path}: another process is using this folder"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "mixnodes").write_text("")
    with pytest.raises(ConfigError, match="mixnodes"):
        NodeHome("mixnode", "one", tmp_path).create()
    with pytest.raises(ConfigError, match="not a folder"):
        private_folder(tmp_path / "mixnodes")


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may write everywhere: for the length of a test it is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, nobody: None) -> None:
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        NodeHome("mixnode", "one", tmp_path).create()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
