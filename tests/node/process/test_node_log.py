"""The log's line."""

import io
import re

import pytest

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from nymtw.node.process.log import LineObserver, format_line

pytestmark = pytest.mark.pythons

HEAD = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] "


def logged(coloured: bool = False, level: object = LogLevel.info) -> tuple[Logger, io.StringIO]:
    file = io.StringIO()
    observer = LogPublisher(LineObserver(file, level, coloured))
    return Logger(namespace=__name__, observer=observer), file


def test_a_line_names_module_function_and_level() -> None:
    log, file = logged()
    log.info("Listening on {where}", where="192.168.0.6:1789")
    line = f"{__name__}/test_a_line_names_module_function_and_level ▶ INFO - Listening on 192.168.0.6:1789\n"
    assert re.fullmatch(HEAD + re.escape(line), file.getvalue())


def test_an_event_that_waited_for_logging_to_begin_has_its_own_namespace() -> None:
    from twisted.logger import LimitedHistoryLogObserver

    file = io.StringIO()
    waiting = LimitedHistoryLogObserver()
    Logger(namespace="nymtw.provider.service", observer=waiting).warn("early")
    waiting.replayTo(LineObserver(file))
    assert re.fullmatch(HEAD + r"provider\.service ▶ WARN - early\n", file.getvalue())


def test_milliseconds() -> None:
    assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.250\] ", format_line({"log_format": "x", "log_time": 0.25}))


def test_a_factorys_noise_is_left_out() -> None:
    log, file = logged()
    log.info("Starting factory {factory!r}", factory=object())
    assert file.getvalue() == ""


def test_colour_is_for_terminals() -> None:
    log, file = logged(coloured=True)
    log.warn("x")
    assert "\x1b[33m" in file.getvalue()
    assert LineObserver(io.StringIO()).coloured is False


def test_lower_levels_are_left_out() -> None:
    log, file = logged()
    log.debug("x")
    assert file.getvalue() == ""
    log, file = logged(level=LogLevel.debug)
    log.debug("x")
    assert "DEBUG" in file.getvalue()


def test_what_comes_from_outside_cannot_forge_a_line_or_colour_a_terminal() -> None:
    log, file = logged()
    log.info("{text}", text="a\n[2019] b\x1b[31m\r")
    assert file.getvalue().count("\n") == 1
    assert "a\\n[2019] b\\x1b[31m\\x0d" in file.getvalue()


def test_a_failure_has_its_cause_and_its_traceback() -> None:
    log, file = logged()
    try:
        raise ValueError("broken")
    except ValueError:
        log.failure("it failed", failure=Failure())
    assert "CRITICAL - it failed: ValueError: broken\n    Traceback" in file.getvalue()


@pytest.mark.parametrize("error", [OSError("No space left on device"), ValueError("I/O operation on closed file")])
def test_a_log_that_cannot_be_written_does_not_end_the_node(error: Exception) -> None:
    tried = []

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise error

    log = Logger(namespace=__name__, observer=LogPublisher(LineObserver(Broken())).__call__)
    log.info("one")
    log.info("two")
    assert ["one" in text or "two" in text for text in tried] == [True, True]
