"""Networks by name: the file, its digest, the one in use, and what a configuration means by it."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.client.config import network_of
from nymtw.client.edges import edges_text
from nymtw.client.options import InitOptions, RunOptions, initialise
from nymtw.client.options import configure as configure_client
from nymtw.encoding import key_text
from nymtw.errors import ConfigError
from nymtw.gateway import options as gateway
from nymtw.inspection.ask import Directories, Options
from nymtw.inspection.network import main
from nymtw.mixnode import options as mixnode
from nymtw.node.networks import NONE_IN_USE, Network, Networks, chosen_network, parse_network, same_digest
from nymtw.nym_node import options as nym_node
from nymtw.provider import options as provider
from nymtw.topology.document import Trust

pytestmark = pytest.mark.pythons

KEYS = tuple(bytes([number]) * 32 for number in (3, 1, 2))
URLS = ("http://10.0.0.3:8080", "https://directory.example")
MINE = Network(URLS, Trust(KEYS, 2))
OTHER = Network(("http://10.0.0.9:8080",), Trust((KEYS[0],)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_network_comes_back_out_of_its_file() -> None:
    assert parse_network(MINE.text().encode(), "FILE") == MINE


def test_the_digest_is_short_and_of_what_the_file_says() -> None:
    digest = MINE.digest()
    groups = digest.split("-")
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert set("".join(groups)) <= set("abcdefghijklmnopqrstuvwxyz234567")
    text = "# other words\n" + MINE.text().replace("\n\n", "\n")
    assert parse_network(text.encode(), "FILE").digest() == digest
    turned = Network(URLS[::-1], Trust(KEYS[::-1], 2))
    assert turned.digest() == digest
    different = [Network(URLS[:1], MINE.trust), Network(URLS, Trust(KEYS, 3)), Network(URLS, Trust(KEYS[:2], 2))]
    assert len({each.digest() for each in (MINE, *different)}) == 4
    assert same_digest(digest, digest.upper().replace("-", " "))
    assert not same_digest(digest, OTHER.digest())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("http://10.0.0.3:8080", "ftp://x"), "'ftp://x' is not a URL"),
        (("http://10.0.0.3:8080", "http://x "), "'http://x ' is not a URL"),
        (("https://directory.example", "http://10.0.0.3:8080"), "named twice"),
        (("threshold = 2", "threshold = 4"), "4 of 3"),
        (("threshold", "thresold"), "unknown key 'thresold'"),
        ((key_text(KEYS[0]), "/etc/passwd"), "keys: "),
        ((key_text(KEYS[0]), key_text(KEYS[1])), "named twice"),
        (("[network]", "[network"), "FILE:"),
    ],
)
def test_a_file_that_cannot_be_is_named(change: tuple[str, str], error: str) -> None:
    with pytest.raises(ConfigError, match="FILE") as raised:
        parse_network(MINE.text().replace(*change).encode(), "FILE")
    assert error in str(raised.value)


@given(st.binary(max_size=300))
def test_hostile_bytes_are_an_error_in_one_line(content: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_network(content, "FILE")


def test_the_first_is_in_use_until_another_one_is(home: Path) -> None:
    networks = Networks()
    assert (networks.names(), networks.in_use()) == ([], "")
    networks.save("mine", MINE)
    networks.save("other", OTHER)
    assert (networks.names(), networks.in_use()) == (["mine", "other"], "mine")
    networks.use("other")
    assert networks.in_use() == "other"
    networks.remove("other")
    assert networks.in_use() == ""
    with pytest.raises(ConfigError, match="no network called 'other': there are: mine"):
        networks.use("other")
    with pytest.raises(ConfigError, match="not 1 to 64 letters"):
        networks.load("../mine")
    assert {path.stat().st_mode & 0o777 for path in (home / "networks").iterdir()} == {0o600}


def configured(kind: str, *words: str) -> Network:
    """What a role's command line means, at a first or later start."""
    if kind == "client":
        client = RunOptions()
        client.parseOptions(["--id=x", *words])
        return network_of(configure_client(client)[1])
    module = {"mixnode": mixnode, "provider": provider, "gateway": gateway, "nym_node": nym_node}[kind]
    options = module.Options()
    options.parseOptions(["--id=x", *words])
    node = module.configure(options)[1].node
    return chosen_network(node.directory, node.directory_key, node.directory_threshold, node.network)


ROLES = ["mixnode", "provider", "gateway", "nym_node"]


@pytest.mark.parametrize("role", ROLES)
def test_a_node_needs_no_directory_options_and_stays_with_its_network(role: str, home: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        configured(role)
    assert str(raised.value) == NONE_IN_USE
    assert not home.exists(), "a start that fails leaves nothing behind"
    Networks().save("mine", MINE)
    assert configured(role) == MINE
    Networks().save("other", OTHER)
    Networks().use("other")
    assert configured(role) == MINE
    assert configured(role, "--network=other") == OTHER
    given = configured(role, f"--directory-key={key_text(KEYS[1])}")
    assert given == Network(("http://127.0.0.1:8080",), Trust((KEYS[1],)))
    assert configured(role, "--directory=http://mirror:1") == Network(("http://mirror:1",), MINE.trust)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("wrong", ["--directory=ftp://x", "--directory=http://x ", "--host=here.example"])
def test_what_cannot_be_used_is_not_written(role: str, wrong: str, home: Path) -> None:
    Networks().save("mine", MINE)
    before = sorted(home.rglob("*"))
    with pytest.raises(ConfigError):
        configured(role, wrong)
    assert sorted(home.rglob("*")) == before


def init(name: str, *words: str) -> str:
    options = InitOptions()
    options.parseOptions(list(words))
    return edges_text(initialise(options, name, Random(1))[1])


def test_init_needs_no_network(home: Path) -> None:
    assert "no network is in use" in init("x")
    with pytest.raises(ConfigError, match="no network is in use"):
        configured("client")
    Networks().save("mine", MINE)
    assert configured("client") == MINE
    init("y")
    assert 'network = "mine"' in (home / "clients" / "y" / "config" / "config.toml").read_text()


@pytest.mark.parametrize("wrong", ["--directory=ftp://x", "--directory=http://x ", "--network=nowhere"])
def test_init_writes_nothing_that_cannot_be_used(wrong: str, home: Path) -> None:
    with pytest.raises(ConfigError):
        init("z", wrong)
    assert not (home / "clients").exists()


def test_commands_that_ask_trust_the_network_in_use() -> None:
    options = Options()
    options.parseOptions([])
    assert [each.url for each in Directories(None, options).all] == ["http://127.0.0.1:8080"]
    Networks().save("mine", MINE)
    assert [each.url for each in Directories(None, options).all] == list(URLS)


def test_the_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.toml"
    file.write_text(MINE.text())
    assert main(["list"]) == 0
    assert "No network is known" in capsys.readouterr().out
    assert main(["add", "mine", str(file), "--digest", OTHER.digest()]) == 1
    assert MINE.digest() in capsys.readouterr().err
    assert Networks().names() == []
    assert main(["add", "mine", str(file)]) == 0
    said = capsys.readouterr().out
    assert MINE.digest() in said
    assert "Compare this digest" in said
    file.write_text(OTHER.text())
    assert main(["add", "mine", str(file)]) == 1
    assert "there is another network called 'mine'" in capsys.readouterr().err
    assert main(["add", "localnet", str(file)]) == 1
    assert main(["add", "--digest", OTHER.digest(), "other", str(file)]) == 0
    capsys.readouterr()
    assert main(["use", "other"]) == 0
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["mine", "*"]
    assert main(["show", "mine"]) == 0
    assert parse_network(capsys.readouterr().out.encode(), "shown") == MINE
    assert main(["remove", "other"]) == 0
    assert Networks().names() == ["mine"]


@pytest.mark.parametrize("words", [[], ["nope"], ["add", "x"], ["use"], ["list", "x"], ["use", "x", "--digest=y"]])
def test_wrong_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_directory_s_url_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    class Serve(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/network.toml" else 404)
            self.end_headers()
            self.wfile.write(MINE.text().encode())

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Serve) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        assert main(["add", "mine", f"http://127.0.0.1:{server.server_port}"]) == 0
        serving.join()
    assert Networks().load("mine") == MINE
    assert main(["add", "x", "ftp://127.0.0.1/x"]) == 1
    assert "http or https" in capsys.readouterr().err
