"""The foreground commands in the original's layout: `nym-mixnode run`, `nym-client init`, and `help`, `version`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from twisted.logger import globalLogBeginner
from twisted.python import usage

from nymtw.errors import NymtwError
from nymtw.node.process.log import observer
from nymtw.node.tap import exit_with

_BANNER = r"""
                       _
 _ __  _   _ _ __ ___ | |___      __
| '_ \| | | | '_ ` _ \| __\ \ /\ / /
| | | | |_| | | | | | | |_ \ V  V /
|_| |_|\__, |_| |_| |_|\__| \_/\_/
       |___/
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a program: `run` is called with the parsed options and may return an exit status."""

    name: str
    summary: str
    options: Callable[[], usage.Options]
    run: Callable[[Any], int | None]


def main(program: str, role: str, commands: Sequence[Command], argv: Sequence[str] | None = None) -> int:
    """Run `program` with `argv` (the command line behind the program's name) and return its exit status.

    `role` is the last line of the banner. A `NymtwError` is one line on standard error and status 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    by_name = {command.name: command for command in commands}
    if not words or words in (["help"], ["--help"], ["-h"]):
        print(usage_text(program, role, commands))
        return 0
    name, rest = words[0], words[1:]
    if name in ("version", "--version"):
        print(f"{program} {version('nymtw')}")
        return 0
    if name == "help" and len(rest) == 1 and rest[0] in by_name:
        print(_help(program, by_name[rest[0]]))
        return 0
    if name == "help":
        name = " ".join(rest)
    if name not in by_name:
        print(f"{program}: {name!r} is not a valid command: see '{program} help'", file=sys.stderr)
        return 1
    command = by_name[name]
    options = _named(program, command)
    try:
        options.parseOptions(rest)
    except usage.UsageError as error:
        print(f"{program} {name}: {error}: see '{program} help {name}'", file=sys.stderr)
        return 1
    except NymtwError as error:
        exit_with(program, error)
    try:
        return command.run(options) or 0
    except NymtwError as error:
        exit_with(program, error)
    except KeyboardInterrupt:
        return interrupted(program)


def interrupted(program: str) -> int:
    """What follows Ctrl-C where nothing handles it: a line, and the exit status that shells expect."""
    print(f"\n{program}: interrupted", file=sys.stderr)
    return 130


def usage_text(program: str, role: str, commands: Sequence[Command]) -> str:
    """The text that `program` prints without arguments."""
    listed = [(command.name, command.summary) for command in commands]
    listed += [("help", "Show the options of a command"), ("version", "Print the version")]
    width = max(len(name) for name, _ in listed)
    lines = "\n".join(f"  {name:{width}}  {summary}" for name, summary in listed)
    return (
        f"Usage: {program} COMMAND [OPTIONS]\n{_BANNER}\n             ({role})\n\n"
        f"Commands:\n{lines}\n\n"
        f'Run "{program} help <command>" for more info on a specific command.'
    )


def run_service(make_service: Callable[[Any], Any], options: usage.Options) -> int:
    """Run what `make_service(options)` returns in the foreground, with the log on standard output, until a signal."""
    from twisted.internet import reactor as module

    reactor: Any = module
    service = make_service(options)
    globalLogBeginner.beginLoggingTo([observer()], redirectStandardIO=False)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return 0


def _named(program: str, command: Command) -> Any:
    options: Any = command.options()
    options.synopsis = f"Usage: {program} {command.name} [OPTIONS]"
    return options


def _help(program: str, command: Command) -> str:
    options = _named(program, command)
    options.longdesc = command.summary
    return str(options)
