"""The common part of the commands that ask a directory: options, trust, and a reactor to run on."""

import json
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.encoding import from_cbor, parse_key_text
from nymtw.errors import DirectoryError, EncodingError, NymtwError
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.networks import LOCAL_DIRECTORY, Network, Networks, chosen_network
from nymtw.node.option_types import CommandOptions
from nymtw.node.process.clock import use_monotonic
from nymtw.node.tap import DIRECTORY_KEY, DIRECTORY_THRESHOLD, NETWORK, check_one_network, several
from nymtw.topology.document import (
    MAX_TOPOLOGY_LENGTH,
    SignedTopology,
    Topology,
    Trust,
    valid_signers,
    verify_topology,
)

LOCAL: Final = LOCAL_DIRECTORY


class Options(CommandOptions):
    """The directories to ask, and the keys to trust."""

    optParameters: list[list[Any]] = [NETWORK, DIRECTORY_THRESHOLD]
    opt_directory = several("directory", f"URL of the directory [default: the network's, or {LOCAL}]; may be repeated")
    opt_directory_key = several("directory-key", DIRECTORY_KEY)

    def postOptions(self) -> None:
        """Raises `UsageError` where two networks are named."""
        check_one_network(self)


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of the directories: the newest trusted topology, and the keys that have signed it.

    `troubles`: the problem with each directory that has not returned it, by URL. `pinned`: whether the user has chosen
    the trusted keys.
    """

    trust: Trust
    pinned: bool
    topology: Topology
    signers: list[bytes]
    troubles: Mapping[str, str]


def silent(found: Found) -> list[bytes]:
    """The directories that have not signed the topology."""
    return sorted(set(found.trust.directories) - set(found.signers))


class Directories:
    """The directories from the options, or of the network in use. Raises `ConfigError`, `KeyFileError`."""

    def __init__(self, reactor: Any, options: Options) -> None:
        self._network = self._chosen(options)
        urls = self._network.directories if self._network is not None else options.get("directory") or [LOCAL]
        self.all = [HTTPDirectory(reactor, url) for url in urls]

    @staticmethod
    def _chosen(options: Options) -> Network | None:
        """The network whose keys the user has chosen; None: those that the directory names are trusted."""
        urls, keys, threshold = (options.get(f"directory{name}") for name in ("", "-key", "-threshold"))
        name = options["network"]
        if keys or name or (not urls and Networks().in_use()):
            return chosen_network(urls or "", keys or "", threshold or 0, name or "")
        return None

    async def fetch(self) -> Found:
        """Ask all directories. If none has a trusted topology, raises the error of the first one.

        Raises `DirectoryError`, `TopologyError`, `KeyFileError`, `ConfigError`.
        """
        trust, pinned = await self._trust()
        asked: Any = await DeferredList([each.topology() for each in self.all], consumeErrors=True)
        fetched: list[tuple[str, Topology, bytes]] = []
        troubles: dict[str, str] = {}
        first: Exception | None = None
        for directory, (answered, result) in zip(self.all, asked, strict=True):
            try:
                if not answered:
                    result.raiseException()
                fetched.append((directory.url, verify_topology(result, trust, time.time()), result))
            except NymtwError as error:
                first = first or error
                troubles[directory.url] = str(error)
        if not fetched:
            raise first or DirectoryError("no directory is named")
        _, newest, signed = max(fetched, key=lambda each: each[1].serial)
        for url, topology, _ in fetched:
            behind = (newest.serial - topology.serial) / 1e9
            if behind > newest.refresh * 1.5:
                troubles[url] = f"its topology is {behind:.0f} s older than that of the others"
        signatures = from_cbor(signed, SignedTopology, MAX_TOPOLOGY_LENGTH)
        return Found(trust, pinned, newest, valid_signers(signatures, trust), troubles)

    async def description(self) -> bytes:
        """The description of the nodes from the first directory that answers. Raises `DirectoryError`."""
        for directory in self.all[:-1]:
            try:
                return await directory.description()
            except DirectoryError:
                continue
        return await self.all[-1].description()

    async def close(self) -> None:
        """Close the connections."""
        for directory in self.all:
            await directory.close()

    async def _trust(self) -> tuple[Trust, bool]:
        """The trusted keys, and whether the user has chosen them. Without keys, those that the directory names."""
        if self._network is not None:
            return self._network.trust, True
        try:
            described = json.loads(await self.description())["directory"]
            return Trust(tuple(map(parse_key_text, described["identityKeys"])), int(described["threshold"])), False
        except (ValueError, LookupError, TypeError, EncodingError):
            raise DirectoryError(f"{self.all[0].url} does not tell its key: give --directory-key") from None


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
