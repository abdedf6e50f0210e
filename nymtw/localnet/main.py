"""`nymtw localnet`: options, signals, the reactor, and the exit status."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.errors import NymtwError
from nymtw.localnet.console import Console
from nymtw.localnet.files import LONGEST_NAME, MAGIC, NamedFile
from nymtw.localnet.options import Options, read_file
from nymtw.localnet.session import Session
from nymtw.message.fragments import MAX_MESSAGE_LENGTH

# What a terminal, an init system and a terminal that is closed send.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LARGEST_FILE = MAX_MESSAGE_LENGTH - len(MAGIC) - 2 - LONGEST_NAME


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw localnet`; returns the exit status."""
    options = Options()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"nymtw localnet: {error}: see 'nymtw localnet --help'", file=sys.stderr)
        return 1
    try:
        name = options["send"]
        file = None if name is None else NamedFile(Path(name).name, read_file(name, LARGEST_FILE))
        return _run(options, file)
    except NymtwError as error:
        print(f"nymtw localnet: {error}", file=sys.stderr)
        return 1


def _run(options: Options, file: NamedFile | None) -> int:
    from twisted.internet import reactor as module

    reactor: Any = module
    session = Session(reactor, options, file, Console())
    outcome: list[Any] = []

    def start() -> None:
        running = Deferred.fromCoroutine(session.run())
        running.addBoth(outcome.append)
        running.addBoth(lambda _: reactor.stop())

    def signalled(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(session.interrupt, number)

    for number in SIGNALS:
        signal.signal(number, signalled)
    reactor.callWhenRunning(start)
    # The reactor's own handlers would stop it before the processes are gone.
    reactor.run(installSignalHandlers=False)
    [result] = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return int(result)
