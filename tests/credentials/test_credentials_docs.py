"""The example of docs/credentials.md runs as it stands, and its tables have every object."""

import re
from pathlib import Path

from nymtw.credentials.wire import Kind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "credentials.md"


def test_the_example_runs():
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), {})


def test_every_type_is_in_a_table():
    _, text = PAGE.read_text(encoding="utf-8").split("## Keys")
    found = re.findall(r"[|;] ([0-9a-f]{2}), ", text)
    assert sorted(found) == sorted(f"{kind:02x}" for kind in Kind)
