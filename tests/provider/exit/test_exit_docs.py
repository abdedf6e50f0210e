"""docs/exit.md says what the code does."""

from pathlib import Path

import pytest

from nymtw.provider.exit.policy import DEFAULT_POLICY, ExitPolicy
from nymtw.provider.exit.service import Options

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "exit.md").read_text()
BLOCKS = [block.partition("\n")[2] for block in PAGE.split("```")[1::2]]


def test_the_default_policy_is_the_one_in_the_page() -> None:
    assert DEFAULT_POLICY in BLOCKS


def test_the_example_is_a_policy() -> None:
    [example] = [block for block in BLOCKS if "# the web" in block]
    policy = ExitPolicy.parse(example)
    assert policy.accepts("203.0.113.9", 22)
    assert not policy.accepts("198.51.100.7", 80)


@pytest.mark.parametrize("parameter", Options.optParameters, ids=lambda parameter: parameter[0])
def test_options_and_their_defaults_are_in_the_page(parameter: list[object]) -> None:
    name, _, default, *_ = parameter
    if name == "exit-policy":
        assert "`--exit-policy FILE`" in PAGE
    else:
        assert f"| `--{name}` | {default:g} |" in PAGE
