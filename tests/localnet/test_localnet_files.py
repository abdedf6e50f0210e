"""A file as a message, and names that stay in their folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.errors import EncodingError
from nymtw.localnet.files import MAGIC, NamedFile, parse_file, safe_name, save


@given(st.text(max_size=100), st.binary(max_size=1000))
def test_round_trip(name: str, content: bytes) -> None:
    file = parse_file(NamedFile(name, content).encode())
    assert file.content == content
    assert file.name == name.encode("utf-8", "replace").decode()


def test_the_bytes() -> None:
    assert NamedFile("ü.txt", b"data").encode() == b"nymtw file 1\x00\x06\xc3\xbc.txtdata"


@pytest.mark.parametrize("message", [b"", b"hello", MAGIC, MAGIC + b"\x00", MAGIC + b"\x00\x05name"])
def test_what_is_no_file_is_refused(message: bytes) -> None:
    with pytest.raises(EncodingError):
        parse_file(message)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("Größe und Maß.pdf", "Größe und Maß.pdf"),
        ("日本語.txt", "日本語.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.exe", "x.exe"),
        ("/", "unnamed"),
        ("", "unnamed"),
        ("..", "unnamed"),
        (".bashrc", "bashrc"),
        ("a\x00b\nc\x1b[31m.txt", "abc[31m.txt"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("x" * 300 + ".tar.gz", "x" * (255 - 3) + ".gz"),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text())
def test_a_safe_name_is_a_name(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe not in (".", "..")
    assert "/" not in safe
    assert "\0" not in safe
    assert len(safe.encode()) <= 255


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = save(tmp_path, NamedFile("../a b.txt", b"one"))
    second = save(tmp_path, NamedFile("a b.txt", b"two"))
    assert (first.name, second.name) == ("a b.txt", "a b (2).txt")
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    long = [save(tmp_path, NamedFile("ü" * 200 + ".txt", b"")) for _ in range(2)]
    assert [len(path.name.encode()) <= 255 for path in long] == [True, True]
    assert long[1].name.endswith(" (2).txt")
