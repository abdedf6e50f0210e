"""config.toml: every value with its comment, and every mistake with its line."""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from nymtw.errors import ConfigError
from nymtw.node.config import load_config, parse_config, read_config

pytestmark = pytest.mark.pythons


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Annotated[str, Meta(description="The name.")]
    port: Annotated[int, Meta(ge=0, le=65535, description="Where it listens.")] = 1789
    rate: float = 5.0
    layer: Annotated[int | None, Meta(description="Nothing: the thinnest.")] = None


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    node: Node


def test_the_first_start_writes_a_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    config = load_config(path, Schema, {"node": {"id": "one", "port": 5}}, "A heading.")
    text = path.read_text()
    assert config.node == Node(id="one", port=5)
    assert text.startswith("# A heading.\n")
    assert '# The name.\nid = "one"\n' in text
    assert "# Where it listens.\nport = 5\n" in text
    assert "# Nothing: the thinnest.\n# layer =\n" in text
    assert tomllib.loads(text) == {"node": {"id": "one", "port": 5, "rate": 5.0}}
    assert read_config(path, Schema) == config


def test_the_command_line_overrides_and_is_not_written_back(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    load_config(path, Schema, {"node": {"id": "one", "port": 5}}, "")
    before = path.read_bytes()
    assert load_config(path, Schema, {"node": {"port": 6}}, "").node.port == 6
    assert path.read_bytes() == before
    assert load_config(path, Schema, {}, "").node.port == 5


def test_a_whole_number_is_a_rate() -> None:
    assert parse_config(b"[node]\nid = 'x'\nrate = 3\n", Schema, "FILE").node.rate == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[node]\nid = 'x'\nprot = 3\n", "FILE:3: unknown key 'prot' in [node]"),
        ("\n[noed]\n", "FILE:2: unknown section [noed]"),
        ("port = 3\n", "FILE:1: unknown key 'port' outside any section"),
        ("node = 3\n", "FILE:1: 'node' is a section, not a value"),
        ("[node]\nid = 'x'\nport = '3'\n", "FILE:3: 'port' in [node]: Expected `int`, got `str`"),
        ("[node]\nid = 'x'\n\nport = 70000\n", "FILE:4: 'port' in [node]: Expected `int` <= 65535"),
        ("[node]\nport = 3\n", "FILE:1: [node]: Object missing required field `id`"),
        ("[node]\nid =\n", "FILE:2: Invalid value"),
        ("[node\n", "FILE:1: Expected ']' at the end of a table declaration"),
        ("[node]\nid = 'x\n", "FILE:2: "),
        ("[node]\nid = 'x'\nid = 'y'\n", "FILE:3: Cannot overwrite a value"),
        ('[node]\nid = """\n', "FILE:2: "),
        ("[node]\nid = '\udcff'\n", "FILE:2: not UTF-8"),
        ("a = " + "[" * 100_000, "FILE: nested too deeply"),
    ],
)
def test_a_mistake_has_file_and_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(errors="surrogateescape"), Schema, "FILE")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--port: Expected `int` <= 65535"):
        load_config(tmp_path / "config.toml", Schema, {"node": {"id": "x", "port": 70000}}, "")
    with pytest.raises(ConfigError, match="--id is needed"):
        load_config(tmp_path / "config.toml", Schema, {}, "")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}: Is a directory"):
        read_config(tmp_path, Schema)
