"""`nymtw new-provider` writes what it says, and the example in the repository is what it writes."""

from pathlib import Path

import pytest

from nymtw.commands import main
from nymtw.errors import ConfigError
from nymtw.scaffold.main import write

EXAMPLE = Path(__file__).parents[3] / "examples" / "third-party-provider"


def tree(folder: Path) -> dict[str, str]:
    unwanted = {"__pycache__", "build"}
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
        and not unwanted & set(path.parts)
        and ".egg-info" not in str(path)
        and path.name != "dropin.cache"
    }


def test_the_example_is_what_the_command_writes(tmp_path: Path) -> None:
    write("hello", tmp_path / "new")
    assert tree(EXAMPLE) == tree(tmp_path / "new")


def test_a_name_with_dashes_makes_names_that_python_takes(tmp_path: Path) -> None:
    write("two-words", tmp_path / "new")
    files = tree(tmp_path / "new")
    assert "two_words = ProviderFactory(" in files["twisted/plugins/nymtw_two_words_provider.py"]
    assert "class TwoWords(Service):" in files["nymtw_two_words/provider.py"]
    assert not [text for text in files.values() if "$" in text]
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")


@pytest.mark.parametrize("name", ["list", "Hello", "a b", "-a", "a-", "a--b", "", "é", "../x"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a provider"):
        write(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_and_a_folder_that_is_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-provider", "echo", "--dir", str(tmp_path / "new")]) == 1
    assert main(["new-provider", "mine", "--dir", str(tmp_path)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == (
        "nymtw new-provider: there is a provider called 'echo' already: see 'twistd nym-provider --impl=list'"
    )
    assert errors[1] == f"nymtw new-provider: {tmp_path}: File exists"


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-provider", "mine", "--dir", str(tmp_path / "new")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/new/nymtw_mine/provider.py" in lines
    assert lines[-1] == f"Now: pip install -e '{tmp_path}/new[test]' && pytest {tmp_path}/new"


def test_without_a_name_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-provider"]) == 1
    assert "see 'nymtw new-provider --help'" in capsys.readouterr().err
