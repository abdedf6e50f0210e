"""The directories of a `SimulatedNetwork`: one, or several that sign together, each of which can be killed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from nymtw.directory.config import DirectoryConfig
from nymtw.directory.consensus.votes import statements_answer
from nymtw.directory.core import Directory, LocalDirectory
from nymtw.directory.service import make_directory
from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, EncodingError
from nymtw.interfaces import IDirectory
from nymtw.node.directories.http_directory import POST_TIMEOUT, TIMEOUT
from nymtw.node.directories.several_directories import SeveralDirectories
from nymtw.node.directories.trust import majority
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryHost, MemoryNetwork
from nymtw.topology.document import Trust


class Simulation(Protocol):
    """The simulated network, as far as its directories need it."""

    network: MemoryNetwork
    clock: FakeClock
    directories: "SimulatedDirectories"
    directory_away: bool


class SimulatedDirectories:
    """`identities`: the key of each directory, by its name; `config` is that of all."""

    def __init__(self, network: Simulation, identities: Mapping[str, SigningKey], config: DirectoryConfig) -> None:
        self._network = network
        self._identities = identities
        self._config = config
        self._kept: dict[str, bytes] = {}
        keys = tuple(bytes(key.verify_key) for key in identities.values())
        self.trust = Trust(keys, majority(len(keys)))
        self.away: set[str] = set()
        self.running: dict[str, Directory] = {name: self._make(name) for name in identities}

    @property
    def names(self) -> Sequence[str]:
        """Of all."""
        return list(self._identities)

    def start(self) -> None:
        """Start the agreement, if there are several."""
        for directory in self.running.values():
            _start(directory)

    def stop(self) -> None:
        """Stop all that run."""
        for name in self._identities:
            if name not in self.away:
                self.kill(name)

    def kill(self, name: str) -> None:
        """Stop a directory: it does not answer, and forgets all but its last topology."""
        self.away.add(name)
        directory = self.running[name]
        if directory.attended is not None:
            directory.attended.stopService()
        if directory.agreement is not None:
            directory.agreement.stopService()

    def restart(self, name: str) -> None:
        """Start one that was killed."""
        self.running[name] = directory = self._make(name)
        self.away.discard(name)
        _start(directory)

    def seen_from(self, host: MemoryHost) -> IDirectory:
        """All of them, as a node or client on `host` sees them."""
        ways = {name: RemoteDirectory(self._network, host, name) for name in self._identities}
        if len(ways) == 1:
            return next(iter(ways.values()))
        return SeveralDirectories(host, ways, self.trust, self._network.clock.wall_clock)

    def _make(self, name: str) -> Directory:
        others = {f"http://{other}": key for other, key in self._identities.items() if other != name}
        peers = [f"{url}={key_text(bytes(key.verify_key))}" for url, key in others.items()]
        section = msgspec.structs.replace(self._config.directory, peers=peers)
        return make_directory(
            self._network.network.host(name),
            self._identities[name],
            msgspec.structs.replace(self._config, directory=section),
            wall_clock=self._network.clock.wall_clock,
            previous=self._kept.get(name),
            keep=lambda document: self._kept.update({name: document}),
            peer=lambda url: RemotePeer(self._network, name, url.removeprefix("http://")),
        )


def _start(directory: Directory) -> None:
    if directory.attended is not None:
        directory.attended.startService()
    if directory.agreement is not None:
        directory.agreement.startService()


class _Way:
    """To the directory `name`: every answer takes a way there and back, or fails while it is away.

    One that sleeps answers when it goes on, if that is before the timeout.
    """

    def __init__(self, network: Simulation, clock: Any, name: str) -> None:
        self._simulation = network
        self._clock = clock
        self.name = name

    def _ask(self, function: "Callable[[Directory], Any]", timeout: float = TIMEOUT) -> "Deferred[Any]":
        def ask() -> Any:
            host = self._simulation.network.host(self.name)
            if host.asleep_until > self._clock.seconds():
                return deferLater(self._clock, host.asleep_until - self._clock.seconds(), ask)
            directories = self._simulation.directories
            if self._simulation.directory_away or self.name in directories.away:
                raise DirectoryError(f"the {self.name} is away")
            return function(directories.running[self.name])

        def late(result: object, timeout: float) -> Any:
            raise DirectoryError(f"the {self.name}: no answer in {timeout:g} seconds")

        return deferLater(self._clock, 2 * self._simulation.network.latency, ask).addTimeout(timeout, self._clock, late)


@implementer(IDirectory)
class RemoteDirectory(_Way):
    """A directory as one host sees it."""

    def __init__(self, network: Simulation, host: MemoryHost, name: str = "directory") -> None:
        super().__init__(network, host, name)

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        return self._ask(lambda directory: LocalDirectory(directory).announce(path, heartbeat), POST_TIMEOUT)

    def topology(self) -> "Deferred[bytes]":
        return self._ask(lambda directory: LocalDirectory(directory).topology())

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        return self._ask(lambda directory: LocalDirectory(directory).report(metric), POST_TIMEOUT)


class RemotePeer(_Way):
    """A directory as another one sees it."""

    def __init__(self, network: Simulation, own: str, name: str) -> None:
        super().__init__(network, network.network.host(own), name)
        self._own = own

    def notify(self, notice: bytes) -> "Deferred[Any]":
        return self._of(lambda agreement: agreement.receive(notice))

    def part(self, digest: bytes) -> "Deferred[bytes]":
        return self._of(lambda agreement: agreement.part(digest))

    def statements(self, digests: Sequence[bytes]) -> "Deferred[bytes]":
        return self._of(lambda agreement: statements_answer(agreement.statements(list(digests))))

    def topology(self) -> "Deferred[bytes]":
        return self._ask(lambda directory: LocalDirectory(directory).topology())

    def close(self) -> "Deferred[None]":
        return succeed(None)

    def _of(self, function: Callable[[Any], Any]) -> "Deferred[Any]":
        def refused(failure: Any) -> Any:
            failure.trap(EncodingError)
            raise DirectoryError(str(failure.value)) from None

        return self._ask(lambda directory: maybeDeferred(function, directory.agreement)).addErrback(refused)
