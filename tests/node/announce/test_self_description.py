"""What an operator says of a node: on the command line, in the file, in the heartbeat, and what no node may say."""

from pathlib import Path
from typing import Any

import pytest
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from twisted.python import usage

from nymtw.errors import ConfigError, EncodingError
from nymtw.mixnode.options import MixnodeConfig
from nymtw.mixnode.options import Options as MixnodeOptions
from nymtw.mixnode.options import configure as configure_mixnode
from nymtw.node.announce.description import COUNTRIES
from nymtw.node.config import parse_config, read_config
from nymtw.provider.options import Options as ProviderOptions
from nymtw.testing.simulation import SimulatedNetwork
from nymtw.topology.presence import make_validator, read_heartbeat, read_validator

KEY = "A" * 43 + "="
SAID = "Run by <b>us</b> — since 2019, ☎ on request"


@pytest.mark.parametrize("kind", [MixnodeOptions, ProviderOptions])
def test_the_options_of_a_node(kind: Any) -> None:
    options = kind()
    options.parseOptions(["--description", SAID, "--country", "ch"])
    assert (options["description"], options["country"]) == (SAID, "CH")
    for words in (["--country=XX"], ["--country=CHE"], ["--description", "two\nlines"], ["--description", "x" * 281]):
        with pytest.raises(usage.UsageError):
            kind().parseOptions(words)


def test_they_are_kept_in_the_file_and_checked_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))
    options = MixnodeOptions()
    options.parseOptions(["--id=m", f"--directory-key={KEY}", "--description", SAID, "--country=CH"])
    home, config = configure_mixnode(options)
    assert (config.node.description, config.node.country) == (SAID, "CH")
    assert read_config(home.config_file, MixnodeConfig) == config
    text = f'[node]\nid = "m"\ndirectory_key = "{KEY}"\ncountry = "%s"\ndescription = "%s"\n'
    for country, description in (("Switzerland", ""), ("QQ", ""), ("", "\\u001b[31m"), ("", "x" * 281)):
        with pytest.raises(ConfigError, match=r"^f:1: \[node\]: description and country: "):
            parse_config((text % (country, description)).encode(), MixnodeConfig, "f")


def test_the_list_of_countries_has_what_is_assigned_and_no_other() -> None:
    assert len(COUNTRIES) == 249
    assert {"CH", "IS", "TW", "GB", "UA"} <= COUNTRIES
    assert not COUNTRIES & {"XX", "UK", "EU", "ZZ", "AA"}


def heartbeat(**logged: str) -> dict[str, Any]:
    return signed_heartbeat(
        "mixnode",
        host="192.0.2.1",
        port=1,
        keys={1: bytes(32)},
        layer=1,
        timestamp=0,
        signing_key=SigningKey(bytes(32)),
        **logged,
    )


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202egnp", "\x00", "\u2028"])
def test_what_would_change_a_terminal_is_refused(text: str) -> None:
    for field in ("description", "version"):
        with pytest.raises(EncodingError, match=f"{field}: it has unprintable characters"):
            read_heartbeat(heartbeat(**{field: text}), 0.0)
    good = {"public_key": "k", "kind": "t", "version": ""}
    for field, name in (("public_key", "pubKey"), ("kind", "type"), ("version", "version")):
        logged = {**good, field: text}
        post = make_validator(host="192.0.2.1", port=1, timestamp=0, signing_key=SigningKey(bytes(32)), **logged)
        with pytest.raises(EncodingError, match=f"{name}: it has unprintable characters"):
            read_validator(post, 0.0)


def test_a_node_says_it_and_everybody_can_read_it(seed: int) -> None:
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, clients=(), refresh=5.0) as network:
        node = network.nodes["mixnode-1-1"]
        node.reread = lambda: type(node.section)(
            **{**{name: getattr(node.section, name) for name in node.section.__struct_fields__}, **logged}
        )
        logged = {"description": SAID, "country": "ch"}
        node.reload()
        network.run(3)
        [shown] = [each for each in network.directory.nodes() if each["description"]]
        assert (shown["identityKey"], shown["description"], shown["country"]) == (
            node.heartbeat()["identityKey"],
            SAID,
            "CH",
        )
        [posted] = [each for each in network.directory.presence()["MixNodes"] if "country" in each]
        assert (posted["description"], posted["country"]) == (SAID, "CH")
        logged = {"description": "", "country": ""}
        node.reload()
        network.run(3)
        assert not [each for each in network.directory.nodes() if each["description"] or each["country"]]
