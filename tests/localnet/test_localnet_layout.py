"""What a localnet consists of."""

from pathlib import Path

import pytest

from nymtw.encoding import key_text
from nymtw.errors import ConfigError
from nymtw.localnet import ports
from nymtw.localnet.components import NODE_KINDS, NodeKind, Size
from nymtw.localnet.layout import lay_out, table
from nymtw.localnet.localnet import Localnet
from nymtw.localnet.lookout import ports_announced
from nymtw.localnet.options import Options, read_file
from nymtw.localnet.rates import USUAL, Rates
from nymtw.node.home import NodeHome
from nymtw.node.keys import load_or_create_identity
from nymtw.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def _all_ports_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)


def options_of(command: tuple[str, ...]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in command[1:])


def test_the_usual_network(tmp_path: Path) -> None:
    layout = lay_out(tmp_path, 2, 2, 1, Rates(40, 2, 13))
    assert [component.command[0] for component in layout.components] == (
        ["nym-directory"] + ["nym-mixnode"] * 6 + ["nym-provider"] * 3 + ["nym-gateway"] + ["nym-client"] * 2
    )
    names = [component.name for component in layout.components[-6:]]
    assert names == ["provider-1", "provider-2", "webproxy", "gateway-1", "alice", "bob"]
    assert list(layout.node_ports.values()) == list(range(1789, 1799))
    assert layout.client_ports == {"alice": 1977, "bob": 1978}
    assert layout.directory_url == "http://127.0.0.1:8080"
    mixnodes = [options_of(component.command) for component in layout.components[1:7]]
    assert [options["layer"] for options in mixnodes] == ["1", "1", "2", "2", "3", "3"]
    assert {options["directory-key"] for options in mixnodes} == {layout.directory_key}
    assert options_of(layout.components[0].command)["message-sending-rate"] == "40"
    *_, gateway, alice, bob = layout.components
    assert gateway.command[-1] == "--exit-private"
    options = options_of(gateway.command[:-1])
    assert options["mode"] == "exit"
    # Twice what alice sends comes back to her, and what bob sends.
    assert float(options["downlink-rate"]) > 1.5 * (2 * 42 + 40)
    assert float(options["client-rate"]) > 2 * 42
    assert {options["rate"] for options in mixnodes} == {"200"}
    assert "provider" in options_of(bob.command)
    assert "provider" not in options_of(alice.command)
    made = NodeHome("gateway", "gateway-1", tmp_path)
    assert options_of(alice.command)["gateway"] == key_text(bytes(load_or_create_identity(made).verify_key))
    assert alice.where.endswith("at gateway-1")
    for component in layout.components:
        assert component.name in table(layout)
        assert component.where in table(layout)


def test_another_size_and_the_same_keys_at_the_next_start(tmp_path: Path) -> None:
    first, second = lay_out(tmp_path, 3, 1, 2, USUAL), lay_out(tmp_path, 3, 1, 2, USUAL)
    assert len(first.components) == 1 + 9 + 2 + 2 + 2
    assert first == second


def test_without_a_gateway_both_are_at_providers(tmp_path: Path) -> None:
    for providers in (1, 2):
        layout = lay_out(tmp_path, 1, providers, 0, USUAL)
        assert "nym-gateway" not in [component.command[0] for component in layout.components]
        alice, bob = (options_of(component.command) for component in layout.components[-2:])
        assert (alice["provider"] == bob["provider"]) == (providers == 1)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    lay_out(tmp_path, 1, 1, 1, USUAL)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}


def test_one_localnet_for_a_folder(tmp_path: Path) -> None:
    first = Localnet(FakeClock(), tmp_path)
    with pytest.raises(ConfigError, match="another localnet is using this folder"):
        Localnet(FakeClock(), tmp_path)
    first.release()
    second = Localnet(FakeClock(), tmp_path)
    second.release()
    second.processes.kill()
    first.processes.kill()


def test_ports_announced() -> None:
    presence = (
        b'{"CocoNodes": [], "MixNodes": [{"host": "127.0.0.1:1789"}, {"host": "127.0.0.1:1790"}],'
        b' "MixProviderNodes": [{"host": "127.0.0.1:1795"}], "GatewayNodes": [{"mixnetListener": "127.0.0.1:1796"}]}'
    )
    assert ports_announced(presence) == {1789, 1790, 1795, 1796}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--providers", "0"],
        ["--gateways", "-1"],
        ["--gateways", "51"],
        ["--mixnodes-per-layer=x"],
        ["--send="],
        ["--dir", ""],
        ["--rate", "0"],
        ["--rate=many"],
        ["--timeout=nan"],
        ["--nonsense"],
        ["surplus"],
    ],
)
def test_bad_options(arguments: list[str]) -> None:
    from twisted.python import usage

    with pytest.raises(usage.UsageError):
        Options().parseOptions(arguments)


def test_how_many_gateways() -> None:
    found = Options()
    found.parseOptions([])
    assert found["gateways"] == 1
    found.parseOptions(["--gateways=0"])
    assert found["gateways"] == 0


def test_the_file_to_send(tmp_path: Path) -> None:
    path = tmp_path / "a b ü"
    path.write_bytes(b"x" * 10)
    assert read_file(str(path), 10) == b"x" * 10
    with pytest.raises(ConfigError, match="longer than a message may be"):
        read_file(str(path), 9)
    with pytest.raises(ConfigError, match="missing: No such file or directory"):
        read_file(str(tmp_path / "missing"), 9)
    with pytest.raises(ConfigError, match="Is a directory"):
        read_file(str(tmp_path), 9)


def test_every_kind_of_node_has_names_of_its_own() -> None:
    names = [name for kind in NODE_KINDS for name in kind.names(Size(2, 3, 4))]
    assert len(names) == len(set(names)) == 6 + 3 + 1 + 4


def test_a_kind_is_started_with_its_own_options_and_those_of_all() -> None:
    kind = NodeKind("relay", "nym-relay", options=lambda rates: {"stream_rate": rates.service}, flags=("--fast",))
    assert kind.names(Size(1, 1, 0)) == ["relay"]
    component = kind.component("relay", 5, 0, USUAL, {"host": "127.0.0.1"})
    assert component.command == (
        *("nym-relay", "--id=relay", "--port=5", f"--stream-rate={USUAL.service}", "--host=127.0.0.1", "--fast"),
    )
    assert component.where == "127.0.0.1:5"
