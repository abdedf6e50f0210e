"""What every test is held to: nothing may be left behind."""

import gc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from twisted.logger import LogEvent, globalLogPublisher

pytest_plugins = ["nymtw.testing.pytest_plugin"]

# The machine may be slow; what reproduces a failure is printed. NYMTW_EXAMPLES: how many where a test does not say.
settings.register_profile(
    "nymtw", deadline=None, print_blob=True, max_examples=int(os.environ.get("NYMTW_EXAMPLES", "100"))
)
settings.load_profile("nymtw")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where marks are asked for, modules that name none of them are not imported: that takes longer than the tests."""
    asked = re.findall(r"(?<!not )\b(?!not\b|and\b|or\b)\w+", re.sub(r"not \([^)]*\)", "", config.option.markexpr))
    if not asked or not re.fullmatch(r"test_\w+\.py", collection_path.name):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(f"mark.{name}" in text for name in asked) else True


_RECURSION_LIMIT = sys.getrecursionlimit()


def pytest_collection_finish() -> None:
    """py_ecc raises the limit to 100,000 when it is imported; hostile JSON would then overflow the stack."""
    sys.setrecursionlimit(_RECURSION_LIMIT)


@pytest.fixture
def expected_failures() -> list[str]:
    """Log formats of the failures that a test expects to be logged: it appends them."""
    return []


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, expected_failures: list[str]) -> Iterator[None]:
    """Fails a test that leaves a timer or a listening port in the reactor, or that logs an error it did not expect."""
    from twisted.internet import reactor as module

    reactor: Any = module
    errors: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("isError"):
            errors.append(event)

    globalLogPublisher.addObserver(observe)
    gc.freeze()  # the collection below looks at what this test has made, not at all that was imported
    calls, readers = set(reactor.getDelayedCalls()), set(reactor.getReaders())
    yield
    gc.collect()  # a failed Deferred that nobody handled is logged when it is collected
    globalLogPublisher.removeObserver(observe)
    left = [call for call in reactor.getDelayedCalls() if call not in calls]
    for call in left:
        call.cancel()
    ports = [reader for reader in reactor.getReaders() if reader not in readers and "Port" in type(reader).__name__]
    logged = [str(event.get("log_format")) for event in errors]
    unexpected = [text for text in logged if text not in expected_failures]
    assert not unexpected, "\n".join(str(event.get("log_failure")) for event in errors)
    assert not left, "a timer is left behind"
    assert not ports, "a port is left open"
    assert set(expected_failures) <= set(logged), "an error that was expected has not been logged"
