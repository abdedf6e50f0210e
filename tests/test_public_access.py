"""Tests replace and import only what is public: what ruff (SLF001) does not see, since it stands in a string."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PRIVATE_IMPORT = re.compile(r"^\s*from nymtw[\w.]* import (?:\(\s*)?(?:\w+,\s*)*_\w+", re.MULTILINE)
PRIVATE_IN_TEXT = re.compile(r"""(?:setattr|delattr|getattr|patch\.object)\([^()]*,\s*["']_[a-z]\w*["']""")
PRIVATE_PATH = re.compile(r"""["']nymtw[\w.]*\._[a-z]\w*["']""")
PATTERNS = (PRIVATE_IMPORT, PRIVATE_IN_TEXT, PRIVATE_PATH)


def private_access(source: str) -> list[str]:
    return [found.group() for pattern in PATTERNS for found in pattern.finditer(source)]


def test_no_test_reaches_what_is_private() -> None:
    files = [path for path in HERE.rglob("*.py") if path != Path(__file__)]
    found = {str(path.relative_to(HERE)): private_access(path.read_text()) for path in files}
    assert len(files) > 100
    assert not {name: places for name, places in found.items() if places}


@pytest.mark.parametrize(
    "source",
    [
        "from nymtw.link.security import TLSSecurity, _wrap",
        'monkeypatch.setattr(client, "_context", old)',
        "monkeypatch.setattr('nymtw.link.security._wrap', old)",
    ],
)
def test_private_access_is_found(source: str) -> None:
    assert private_access(source)
    assert not private_access(source.replace("_wrap", "wrap").replace("_context", "context"))
