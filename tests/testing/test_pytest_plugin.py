"""The seed of a test that fails is printed, and repeats the run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
import random

def test_it(seed):
    assert random.Random(seed).random() > 2, seed

def test_other():
    assert False
"""


def run(folder: Path, *arguments: str) -> str:
    (folder / "test_seeded.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "nymtw.testing.pytest_plugin", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.long
def test_a_failing_seed_is_printed_and_can_be_given(tmp_path: Path) -> None:
    assert run(tmp_path).count("repeat this run with --seed=1\n") == 1
    found = re.search(r"repeat this run with --seed=(\d+)\n", run(tmp_path, "--seed=random"))
    assert found is not None
    assert f"AssertionError: {found[1]}" in run(tmp_path, f"--seed={found[1]}")
