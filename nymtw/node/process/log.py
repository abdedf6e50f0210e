"""The log's lines: `[2019-10-25 14:42:37.010] provider.service/listen ▶ INFO - Listening on 192.168.0.6:1789`."""

import sys
from datetime import datetime
from types import FrameType
from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

_COLOURS = {
    LogLevel.debug: "36",
    LogLevel.info: "32",
    LogLevel.warn: "33",
    LogLevel.error: "31",
    LogLevel.critical: "35",
}
_MACHINERY = (__name__, "twisted.python.log", "twisted.python.threadable")
# What Twisted says of every factory, an HTTP client's for each request.
_NOISE = ("Starting factory {factory!r}", "Stopping factory {factory!r}")


@implementer(ILogObserver)
class LineObserver:
    """Writes one line for each event of at least `level`, and the traceback behind one that carries a failure."""

    def __init__(self, file: TextIO, level: Any = LogLevel.info, coloured: bool | None = None) -> None:
        """`coloured` is decided by whether `file` is a terminal, unless it is given."""
        self.file = file
        self._level = level
        self.coloured = file.isatty() if coloured is None else coloured

    def __call__(self, event: LogEvent) -> None:
        """Write `event`."""
        level = event.get("log_level", LogLevel.info)
        if level < self._level or event.get("log_format") in _NOISE:
            return
        try:
            self.file.write(format_line(event, self.coloured))
            self.file.flush()
        except (OSError, ValueError):
            pass  # A full disk or a closed terminal must not end the node; there is nowhere to say so.


def format_line(event: LogEvent, coloured: bool = False) -> str:
    """The line of `event`, with its line end. Control characters in the message are made visible."""
    when = datetime.fromtimestamp(event.get("log_time", 0)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    level = event.get("log_level", LogLevel.info)
    message = _printable(formatEvent(event))
    failure = event.get("log_failure")
    trace = ""
    if failure is not None:
        message = _printable(f"{message}: {failure.type.__name__}: {failure.getErrorMessage()}".removeprefix(": "))
        trace = "".join(f"    {_printable(line)}\n" for line in failure.getTraceback().splitlines())
    head = f"{where_from(event)} ▶ {level.name.upper()}"
    if coloured:
        head = f"\x1b[{_COLOURS.get(level, '0')}m{head}\x1b[0m"
    return f"[{when}] {head} - {message}\n{trace}"


def where_from(event: LogEvent) -> str:
    """`module/function` of the caller; the event's own name if the caller is unknown."""
    # Observers are called from within the logging call, so that the first frame outside the machinery is the caller's.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module == "twisted.logger._buffer":
            break  # the event has waited for logging to begin: who logged it is no longer on the stack
        if module not in _MACHINERY and not module.startswith("twisted.logger."):
            return f"{module.removeprefix('nymtw.')}/{frame.f_code.co_name.strip('<>')}"
        frame = frame.f_back
    return str(event.get("log_namespace", "-")).removeprefix("nymtw.")


def observer() -> LineObserver:
    """A `LineObserver` on standard output: `twistd --logger=nymtw.node.process.log.observer`."""
    return LineObserver(sys.stdout)


def _printable(text: str | None) -> str:
    if not text:
        return ""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else "\\n" if letter == "\n" else f"\\x{ord(letter):02x}" for letter in text
    )
