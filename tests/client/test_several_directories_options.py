"""A client and a node that are told of several directories, on the command line and in the file."""

from pathlib import Path
from random import Random

import pytest
from nacl.signing import SigningKey

from nymtw.client.config import ClientConfig
from nymtw.client.options import InitOptions, RunOptions, configure, initialise
from nymtw.client.service import Environment
from nymtw.encoding import key_text
from nymtw.errors import ConfigError
from nymtw.mixnode.options import Options as MixnodeOptions
from nymtw.mixnode.options import configure as configure_mixnode
from nymtw.node.config import read_config
from nymtw.node.directories.several_directories import SeveralDirectories
from nymtw.node.engine.mix_node import Environment as NodeEnvironment
from nymtw.testing.clock import FakeClock

KEYS = [key_text(bytes(SigningKey(bytes([number]) * 32).verify_key)) for number in (1, 2, 3)]
URLS = [f"http://127.0.0.1:808{number}" for number in (1, 2, 3)]
WORDS = [*(f"--directory={url}" for url in URLS), *(f"--directory-key={key}" for key in KEYS)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))


def test_a_client_keeps_what_it_was_told() -> None:
    options = InitOptions()
    options.parseOptions([*WORDS, "--directory-threshold=3"])
    home, _ = initialise(options, "me", Random(1))
    section = read_config(home.config_file, ClientConfig).client
    assert (section.directory_server_topology, section.directory_identity_key) == (URLS, KEYS)
    later = RunOptions()
    later.parseOptions(["--id=me"])
    _, config = configure(later)
    environment = Environment.real(FakeClock(), config)
    assert isinstance(environment.directory, SeveralDirectories)
    assert (len(environment.trust.directories), environment.trust.threshold) == (3, 3)


def test_one_stays_a_text_in_the_file() -> None:
    options = InitOptions()
    options.parseOptions([WORDS[0], WORDS[3]])
    home, config = initialise(options, "me", Random(1))
    assert f'directory_server_topology = "{URLS[0]}"' in home.config_file.read_text()
    assert Environment.real(FakeClock(), config).trust.threshold == 1


def test_a_threshold_that_cannot_be_is_told() -> None:
    options = RunOptions()
    options.parseOptions(["--id=me", *WORDS, "--directory-threshold=4"])
    _, config = configure(options)
    with pytest.raises(ConfigError, match="--directory-threshold"):
        Environment.real(FakeClock(), config)


def test_a_node_is_told_in_the_same_way() -> None:
    options = MixnodeOptions()
    options.parseOptions([*WORDS, "--layer=1"])
    _, config = configure_mixnode(options)
    assert (config.node.directory, config.node.directory_key) == (URLS, KEYS)
    environment = NodeEnvironment.real(FakeClock(), config.node)
    assert isinstance(environment.directory, SeveralDirectories)
    assert environment.trust.threshold == 2
