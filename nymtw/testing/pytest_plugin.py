"""A pytest plugin: the fixture `seed`, printed when a test that uses it fails, and the option that repeats that run.

Write `pytest_plugins = ["nymtw.testing.pytest_plugin"]` into the top `conftest.py`, or a test module. Tests are the
same at every run unless `--seed=random` looks for new cases.
"""

import secrets
from collections.abc import Generator
from typing import Any

import pytest

DEFAULT_SEED = 1

pytest.register_assert_rewrite("nymtw.testing.contracts", "nymtw.testing.provider_contracts")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", default=str(DEFAULT_SEED), help="what the fixture `seed` is: a number, or 'random'")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The number that everything random in this test comes from."""
    text = request.config.getoption("--seed", str(DEFAULT_SEED))  # a plugin named by a test module adds no option
    return secrets.randbits(32) if text == "random" else int(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    used = getattr(item, "funcargs", {}).get("seed")
    if report.failed and used is not None:
        report.sections.append(("seed", f"repeat this run with --seed={used}"))
    return report
