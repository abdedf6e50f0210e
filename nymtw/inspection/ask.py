"""What the commands that ask a directory have in common: options, whom to believe, and a reactor to run on."""

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.encoding import parse_key_text
from nymtw.errors import DirectoryError, EncodingError, NymtwError
from nymtw.node.clock import use_monotonic
from nymtw.node.directory_client import HTTPDirectory
from nymtw.node.keys import read_directory_key
from nymtw.topology.document import Trust


class Options(usage.Options):
    """Which directory, and whose signature."""

    optParameters: list[list[Any]] = [
        ["directory", None, "http://127.0.0.1:8080", "URL of the directory"],
        ["directory-key", None, None, "Its identity key: 44 characters, or the path of its PEM file"],
    ]


def directory_at(reactor: Any, url: str) -> HTTPDirectory:
    """The directory. Raises `ConfigError` for a bad URL."""
    return HTTPDirectory(reactor, url)


async def trust_of(directory: HTTPDirectory, key: str | None) -> tuple[Trust, bool]:
    """Whom to believe, and whether the user has said so; without a `key` the directory says its own.

    Raises `KeyFileError`, `DirectoryError`.
    """
    if key is not None:
        return Trust((read_directory_key(key),)), True
    try:
        said = json.loads(await directory.description())["directory"]
        return Trust(tuple(map(parse_key_text, said["identityKeys"])), int(said["threshold"])), False
    except (ValueError, LookupError, TypeError, EncodingError):
        raise DirectoryError(f"{directory.url} does not say its key: give --directory-key") from None


def run(
    program: str,
    options: Options,
    arguments: Sequence[str],
    work: Callable[[Any, Options], Coroutine[Deferred[Any], Any, int]],
) -> int:
    """Parse `arguments`, run `work` on the reactor, and return the exit status; an error is one line."""
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"{program}: {error}: see '{program} --help'", file=sys.stderr)
        return 1
    from twisted.internet import reactor as module

    reactor: Any = module
    use_monotonic(reactor)
    outcome: list[Any] = []

    async def guarded() -> int:
        return await work(reactor, options)

    def start() -> None:
        running = Deferred.fromCoroutine(guarded())
        running.addBoth(outcome.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    if not outcome:
        return 130  # interrupted
    [result] = outcome
    if isinstance(result, Failure):
        if not result.check(NymtwError):
            result.raiseException()
        print(f"{program}: {result.value}", file=sys.stderr)
        return 1
    return int(result)
