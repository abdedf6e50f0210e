"""What others can write is no home, configuration or network of ours; and strangers get a part of the descriptors."""

import os
import resource
from pathlib import Path

import pytest

from nymtw.client.config import ClientConfig
from nymtw.errors import ConfigError
from nymtw.link.limits import strangers
from nymtw.node.config import read_config
from nymtw.node.home import NodeHome, check_writers
from nymtw.node.networks import Network, Networks
from nymtw.node.process.descriptors import raise_limit
from nymtw.topology.document import Trust

PLACES = ("", "clients", "clients/one", "clients/one/config", "clients/one/data")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
@pytest.mark.parametrize("place", PLACES)
def test_a_home_that_others_can_write_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    home = NodeHome("client", "one", tmp_path / "base")
    home.create()
    folder = tmp_path / "base" / place
    folder.chmod(mode)
    with pytest.raises(ConfigError, match="others than its owner can write") as raised:
        home.create()
    assert str(raised.value).startswith(f"{folder}: ")
    folder.chmod(0o750)
    home.create()


def test_a_home_in_a_folder_like_tmp_is_taken(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base").chmod(0o1777)
    NodeHome("client", "one", tmp_path / "base").create()


def test_a_configuration_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[client]\nid = "one"\n')
    file.chmod(0o664)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_config(file, ClientConfig)
    file.chmod(0o644)
    assert read_config(file, ClientConfig).client.id == "one"


def test_a_network_that_others_can_write_is_refused(tmp_path: Path) -> None:
    networks = Networks(tmp_path)
    networks.save("mine", Network(("http://127.0.0.1:1",), Trust((bytes(32),))))
    (tmp_path / "networks" / "mine.toml").chmod(0o666)
    with pytest.raises(ConfigError, match="chmod go-w"):
        networks.load("mine")


def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    if own:
        with pytest.raises(ConfigError, match="belongs to another user"):
            check_writers(tmp_path)
    else:
        check_writers(tmp_path)  # root can change everything anyhow
    status = os.stat_result((0o040755, 1, 1, 1, own + 2, 0, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda self, **more: status)
    with pytest.raises(ConfigError, match="belongs to another user"):
        check_writers(tmp_path)


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [(1024, 524288, 65536), (1024, 4096, 4096), (100_000, 524288, 100_000), (1024, resource.RLIM_INFINITY, 65536)],
)
def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes(
    soft: int, hard: int, becomes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda which, to: limits.__setitem__(slice(None), list(to)))
    assert raise_limit() == becomes
    assert limits == [becomes, hard]


@pytest.mark.parametrize("descriptors", [256, 1024, 65536])
def test_strangers_never_have_all_descriptors(descriptors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (descriptors, descriptors))
    assert strangers(1024) == min(1024, descriptors // 4)
    assert strangers(1024) < descriptors / 2
