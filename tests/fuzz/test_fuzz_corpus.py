"""The fuzz targets over the committed corpus, so that what the fuzzer starts from holds in every run of the tests."""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS

pytestmark = pytest.mark.pythons

CORPUS = Path(__file__).resolve().parent / "corpus"
INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def test_every_target_has_a_corpus():
    assert {path.parent.name for path in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_corpus_holds(path):
    check = TARGETS[path.parent.name]
    check(path.read_bytes())  # as the fuzzer does
