"""The `nymtw` console script."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from nymtw.commands import COMMANDS, main

pytestmark = pytest.mark.pythons


def test_alone_it_prints_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Usage: nymtw COMMAND [OPTIONS]")
    for name in COMMANDS:
        assert f"  {name} " in printed


@pytest.mark.parametrize("word", ["--version", "version"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out == f"nymtw {version('nymtw')}\n"


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x"]) == 1
    assert capsys.readouterr().err == "nymtw: 'x' is not a valid command: see 'nymtw help'\n"


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", "localnet"])
    assert ended.value.code == 0
    assert "--mixnodes-per-layer=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--providers", "no"], "nymtw localnet: Parameter type enforcement failed"),
        (["--send", "/nowhere/x.pdf"], "nymtw localnet: /nowhere/x.pdf: No such file or directory\n"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localnet", *arguments]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


def test_it_starts_fast_and_without_a_reactor(tmp_path: Path) -> None:
    program = (
        "import sys; from nymtw.commands import main; main([]);"
        "print([name for name in sys.modules if name.startswith('twisted')])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert output.stdout.splitlines()[-1] == "[]"
