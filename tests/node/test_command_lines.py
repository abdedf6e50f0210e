"""Every command of every program: its version is nymtw's, and its help says nothing twice."""

import re
import socket
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from twisted.python import usage

from nymtw import commands as nymtw_commands
from nymtw.client.commands import COMMANDS as CLIENT
from nymtw.client.commands import main as client_main
from nymtw.directory.commands import main as directory_main
from nymtw.gateway import options as gateway
from nymtw.gateway.commands import main as gateway_main
from nymtw.mixnode import options as mixnode
from nymtw.mixnode.commands import main as mixnode_main
from nymtw.node import free_ports
from nymtw.nym_node import options as nym_node
from nymtw.nym_node.commands import main as nym_node_main
from nymtw.provider import options as provider
from nymtw.provider.commands import main as provider_main
from nymtw.validator.commands import main as validator_main

PROGRAMS: dict[str, Any] = {
    "nym-client": client_main,
    "nym-directory": directory_main,
    "nym-gateway": gateway_main,
    "nym-mixnode": mixnode_main,
    "nym-node": nym_node_main,
    "nym-provider": provider_main,
    "nym-validator": validator_main,
}
VALIDATOR = ("init", "run", "show", "genesis", "vote", "check")
WORDS = [
    *(("nymtw", *(("keys", "deal") if name == "keys" else (name,))) for name in nymtw_commands.COMMANDS),
    *(("nym-client", command.name) for command in CLIENT),
    *(("nym-validator", name) for name in VALIDATOR),
    *((name, "run") for name in PROGRAMS if name not in ("nym-client", "nym-validator")),
]
KEY = "A" * 43 + "="


def said(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line prints before it ends well."""
    program, *rest = words
    monkeypatch.setattr("sys.argv", [program, *rest])
    main = nymtw_commands.main if program == "nymtw" else PROGRAMS[program]
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_version_is_ours(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.fullmatch(r"nymtw \d\S*\n", said((*words, "--version"), monkeypatch, capsys))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_help_says_each_option_once(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said((*words, "--help"), monkeypatch, capsys)
    assert "Twisted" not in text
    assert text.count("Usage:") == 1
    options = re.split(r"\n +(?:-\w, )?(?=--)", text.partition("Options:")[2].partition("\n\n")[0])
    names = [option.split()[0] for option in options if option.strip()]
    assert len(set(names)) == len(names)
    for option in options:
        spoken = re.sub(r"[^a-z0-9 ]", "", " ".join(option.split()).lower().replace("-", "")).split()
        phrases = [tuple(spoken[place : place + 4]) for place in range(len(spoken) - 3)]
        assert len(set(phrases)) == len(phrases), option


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this machine on which somebody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def test_a_port_on_which_somebody_listens_is_not_free(taken: int) -> None:
    assert not free_ports.is_free("127.0.0.1", taken)
    assert free_ports.is_free("127.0.0.1", free_ports.any_port("127.0.0.1"))


ROLES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "mixnode": (mixnode, ()),
    "provider": (provider, ()),
    "gateway": (gateway, ()),
    "auto": (nym_node, ("--mode=auto",)),
}


def ports_of(role: str, *words: str) -> dict[str, int]:
    module, more = ROLES[role]
    options = module.Options()
    options.parseOptions(["--id=n", "--host=127.0.0.1", f"--directory-key={KEY}", *more, *words])
    config = module.configure(options)[1]
    sections = [getattr(config, name) for name in config.__struct_fields__]
    names = ("port", "client_port", "http_port")
    return {name: getattr(section, name) for section in sections for name in names if hasattr(section, name)}


@pytest.mark.parametrize("role", ROLES)
def test_a_usual_port_that_is_taken_gives_way_at_the_first_start(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    taken: set[int] = {1789, 9000, 8000}
    monkeypatch.setattr(free_ports, "is_free", lambda host, port: port not in taken)
    given = {"port": 1, "client_port": 2, "http_port": 3}
    first = ports_of(role)
    assert taken.isdisjoint(first.values())
    assert len(set(first.values())) == len(first)
    taken.clear()
    assert ports_of(role) == first, "what was chosen is kept"
    taken.update(given.values())
    asked = ports_of(role, *(f"--{name.replace('_', '-')}={given[name]}" for name in first))
    assert asked == {name: given[name] for name in first}, "what is asked for is never changed"


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert nymtw_commands.main(["new-provider", "x", "--summary", 'a "quoted" one']) == 1
    assert "--summary: it is one line" in capsys.readouterr().err
    with pytest.raises(usage.UsageError):
        import_module("nymtw.scaffold.main").Options().parseOptions(["--summary=", "x"])
