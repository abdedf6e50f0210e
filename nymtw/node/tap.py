"""Common parts of the twistd commands of all roles: options, and an error in one line if they cannot start."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO

from twisted.application.service import IService, Service
from twisted.logger import ILogObserver, Logger
from twisted.python import logfile, usage
from twisted.python.components import Componentized
from zope.interface import implementer

from nymtw.errors import NymtwError
from nymtw.node.option_types import CommandOptions
from nymtw.node.process.clock import use_monotonic
from nymtw.node.process.descriptors import raise_limit
from nymtw.node.process.log import LineObserver
from nymtw.node.process.parent_watch import watch_parent
from nymtw.node.process.reload import Hangup

_log = Logger()


DIRECTORY = "URL of the directory, such as http://127.0.0.1:8080; again for each of several"
DIRECTORY_KEY = "The directory's identity key: 44 characters, or the path of its PEM file; again for each of several"


def port_number(text: str) -> int:
    """A TCP port, 0 (any free one) to 65535. `usage.Options` turns the `ValueError` into a usage error."""
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return number


port_number.coerceDoc = "A number from 0 to 65535."  # type: ignore[attr-defined]  # what usage.Options asks for


DIRECTORY_THRESHOLD = [
    "directory-threshold",
    None,
    None,
    "How many of the directories must have signed the topology [default: more than half]",
    int,
]


NETWORK = ["network", None, None, "Name of the network [default: the one in use; see 'nymtw network']"]


def several(name: str, text: str) -> Callable[[Any, str], None]:
    """The `opt_...` method of an option that may be given again: a list, under its name. `text` explains it."""

    def option(self: Any, value: str) -> None:
        self.opts.setdefault(name, []).append(value)

    option.__doc__ = text
    return option


def check_one_network(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` where a network is named, and its keys are given too."""
    if options["network"] and options.get("directory-key"):
        raise usage.UsageError("--network and --directory-key: a network's file has its keys")


def network_given(given: Mapping[str, Any], directory: str, key: str) -> dict[str, Any]:
    """What is `given`, and nothing of a network that stands in a file beside it: one takes the place of the other.

    `directory` and `key` are the names of the directories' URLs and keys.
    """
    found = dict(given)
    if found.get("network"):
        for name in (directory, key):
            found.setdefault(name, "")
        found.setdefault("directory_threshold", 0)
    elif found.get(key):
        found["network"] = ""
    return found


def one_or_list(values: list[str]) -> str | list[str]:
    """A value that was given once, as it is."""
    return values[0] if len(values) == 1 else values


class RoleOptions(CommandOptions):
    """The options of every role. A value that is not given is None, so that `config.toml` or its default decides."""

    optParameters: ClassVar[list[Any]] = [
        ["id", None, None, "Name of this one; its files are in ~/.nym/<role>s/ID"],
        ["host", None, None, "IP address to listen on and to be reached at"],
        ["port", None, None, "TCP port to listen on", port_number],
    ]

    def given(self, *names: str) -> dict[str, Any]:
        """The `names` that are on the command line, with underscores for dashes."""
        return {name.replace("-", "_"): self[name] for name in names if self.get(name) is not None}


class NodeOptions(RoleOptions):
    """The options of every role that asks a directory."""

    optParameters: ClassVar[list[Any]] = [NETWORK, DIRECTORY_THRESHOLD]
    opt_directory = several("directory", DIRECTORY)
    opt_directory_key = several("directory-key", DIRECTORY_KEY)

    def given(self, *names: str) -> dict[str, Any]:
        """As for every role; a list for an option that was given more than once."""
        found = super().given(*names)
        return {name: one_or_list(value) if isinstance(value, list) else value for name, value in found.items()}

    def postOptions(self) -> None:
        """Raises `UsageError` where two networks are named."""
        check_one_network(self)


def run_or_exit(
    program: str, options: usage.Options, build: Callable[[Any], Any], reactor: Any = None
) -> "RoleService":
    """The result of a role's `makeService`: the service that `build(reactor)` makes, on the monotonic clock.

    A `NymtwError` while it is built, takes its ports or starts ends the process: one line on standard error, exit
    status 1. Building it and `privilegedStartService` come before twistd makes a daemon of itself, so that its user
    sees the line; such a service must not yet open a database or start a timer. `reactor` is the installed one.
    """
    if reactor is None:
        from twisted.internet import reactor

    try:
        use_monotonic(reactor)
        raise_limit()
        inner = build(reactor)
        inner.privilegedStartService()
        watch = watch_parent(reactor, os.environ)
    except NymtwError as error:
        exit_with(program, error)
    reload = getattr(inner, "reload", None)
    return RoleService(program, inner, watch, options, None if reload is None else Hangup(reactor, reload))


def exit_with(program: str, error: NymtwError, stream: TextIO | None = None) -> NoReturn:
    """One line on standard error, or `stream`, and exit status 1."""
    _print_error(program, error, stream)
    raise SystemExit(1)


def stop_with(reactor: Any, program: str, error: NymtwError) -> None:
    """End a process whose reactor runs: the line in the log and on standard error, an orderly stop, exit status 1."""
    import atexit

    _log.critical("{line}", line=_line(error))
    _print_error(program, error, None)

    def leave() -> None:
        sys.stdout.flush()
        os._exit(1)

    # twistd's own exit status is 0 whenever the reactor has run; by the time of atexit it has removed its pid file.
    atexit.register(leave)
    reactor.stop()


@implementer(IService)
class RoleService(Service):
    """The outermost service of a role: what `twistd` and `twist` start and stop."""

    def __init__(
        self, program: str, inner: Any, watch: Any, options: usage.Options, hangup: Hangup | None = None
    ) -> None:
        self._program = program
        self._watch = watch
        self._hangup = hangup
        self._options = options
        # twistd's logging replaces sys.stderr, and a daemon's is /dev/null: this is the user's until we have started.
        self._terminal = _terminal()
        self.inner = inner

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log lines, unless twistd was told of another logger."""
        if isinstance(parent, Componentized):
            observer = twistd_observer(self._options)
            if observer is not None:
                parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Nothing: `run_or_exit` has done it."""

    def startService(self) -> None:
        """Start the role; a `NymtwError` ends the process."""
        try:
            super().startService()
            self.inner.startService()
        except NymtwError as error:
            if _log_file(self._options) is not None:
                _log.critical("{line}", line=_line(error))
            exit_with(self._program, error, self._terminal)
        finally:
            if self._terminal is not None:
                self._terminal.close()
        for service in (self._watch, self._hangup):
            if service is not None:
                service.startService()

    def stopService(self) -> Any:
        """Stop the role."""
        super().stopService()
        for service in (self._watch, self._hangup):
            if service is not None:
                service.stopService()
        return self.inner.stopService()


def _terminal() -> TextIO | None:
    try:
        return os.fdopen(os.dup(2), "w")
    except OSError:
        return None  # started without a standard error


def _line(error: NymtwError) -> str:
    return " ".join(str(error).split())


def _print_error(program: str, error: NymtwError, stream: TextIO | None) -> None:
    stream = stream or sys.__stderr__
    if stream is not None:
        print(f"{program}: {_line(error)}", file=stream, flush=True)


def twistd_observer(options: usage.Options) -> LineObserver | None:
    """The observer for `twistd`, which writes where twistd's own options say; None if they ask for something else.

    twistd takes an observer from the application, but then leaves out its own `--logfile`: this one follows it.
    """
    twistd = _twistd(options)
    if twistd is None or twistd.get("logger") or twistd.get("syslog"):
        return None
    path = _log_file(options)
    return LineObserver(sys.stdout) if path is None else LineObserver(_rotated(path), coloured=False)


def _twistd(options: usage.Options) -> Mapping[str, Any] | None:
    """twistd's own options, of which `options` are a part; None under `twist` and in a console script."""
    parent: Mapping[str, Any] | None = getattr(options, "parent", None)
    return parent if parent is not None and "nodaemon" in parent else None


def _log_file(options: usage.Options) -> Path | None:
    """The file that twistd logs to; None if there is none."""
    twistd = _twistd(options)
    if twistd is None or twistd.get("logfile") == "-" or (not twistd.get("logfile") and twistd["nodaemon"]):
        return None
    return Path(twistd.get("logfile") or "twistd.log").absolute()


def _rotated(path: Path) -> Any:
    """twistd's log file: rotated at a megabyte, as it has always been, and reopened on SIGUSR1."""
    import signal

    from twisted.internet import reactor

    file = logfile.LogFile.fromFullPath(str(path))

    def rotate(number: int, frame: Any) -> None:
        reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]  # the reactor module is typed as a module

    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, rotate)
    return file
