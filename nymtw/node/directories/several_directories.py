"""Several directories as one: posts go to all of them, the topology comes from whichever has it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nymtw.errors import ConfigError, DirectoryError, NymtwError
from nymtw.interfaces import IDirectory
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.directories.trust import as_list
from nymtw.node.process.log_once import LogOnce
from nymtw.topology.document import Topology, Trust, verify_topology

PATIENCE = 3.0  # seconds after which the others are asked, too
STALE = 2.0  # refreshes after which a topology that is still the newest one makes its directory doubtful


def directories_at(reactor: Any, urls: str | Sequence[str], trust: Trust) -> IDirectory:
    """The directory at this URL, or all of those at these. Raises `ConfigError` for a bad one."""
    found = [HTTPDirectory(reactor, url) for url in as_list(urls)]
    if not found:
        raise ConfigError("--directory: no URL of a directory is given")
    return found[0] if len(found) == 1 else SeveralDirectories(reactor, {each.url: each for each in found}, trust)


@implementer(IDirectory)
class SeveralDirectories:
    """The directories in `directories`, by their names in the log.

    A post is taken once one of them has taken it; one that has not answered yet is left out of the next post, so that
    who is dead or slow delays nobody. The topology is asked of the one that was right last. If it does not answer
    within three seconds, gives what not enough directories have signed, or nothing new for too long, all are asked,
    and the newest that enough have signed is taken.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        directories: Mapping[str, IDirectory],
        trust: Trust,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._directories = dict(directories)
        self._trust = trust
        self._wall_clock = wall_clock
        self.order = list(self._directories)
        self._posting: set[tuple[str, str]] = set()  # (content, directory)
        self._log_once = {name: LogOnce() for name in self._directories}
        self._newest: Topology | None = None
        self._grown = 0.0  # when it last became newer

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        """Post one signed heartbeat to all of them."""
        return self._to_all("announce", lambda directory: directory.announce(path, heartbeat))

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        """Post one signed metric to all of them."""
        return self._to_all("report", lambda directory: directory.report(metric))

    def topology(self) -> "Deferred[bytes]":
        """Fires with the bytes of the newest topology that enough of them have signed."""
        return _Search(self).done

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        for directory in self._directories.values():
            if isinstance(directory, HTTPDirectory):
                directory.close()

    def _to_all(self, what: str, post: Callable[[IDirectory], Any]) -> "Deferred[None]":
        asked: list[Deferred[Any]] = []

        def cancel(_: object) -> None:
            for each in list(asked):
                each.cancel()

        done: Deferred[None] = Deferred(cancel)
        causes: list[str] = []
        names = [name for name in self._directories if (what, name) not in self._posting]
        if not names:
            done.errback(DirectoryError("no directory has answered the post before this one"))
        left = len(names)

        def over(result: Any, name: str) -> None:
            nonlocal left
            left -= 1
            self._posting.discard((what, name))
            failure = result if isinstance(result, Failure) else None
            if failure is None:
                self._is_well(name)
            elif failure.check(NymtwError):
                causes.append(str(failure.value))
                self._is_ill(name, str(failure.value))
            elif not failure.check(CancelledError):
                self.log.failure("a post to a directory failed", failure=failure)
            if done.called:
                return
            if failure is None:
                done.callback(None)
            elif not left:
                done.errback(DirectoryError("; ".join(causes) or "no directory could be asked"))

        for name in names:
            self._posting.add((what, name))
        for name in names:
            posting = maybeDeferred(post, self._directories[name])
            asked.append(posting)
            posting.addBoth(over, name)
        return done

    def _is_well(self, name: str) -> None:
        if self._log_once[name].is_over():
            self.log.info("the directory {name} is back", name=name)

    def _is_ill(self, name: str, cause: str) -> None:
        if self._log_once[name].is_new(cause):
            self.log.warn("a directory of several cannot be used: {name}: {cause}", name=name, cause=cause)

    def _verify(self, name: str, data: bytes) -> tuple[Topology, bool]:
        """Its topology, and whether it makes further questions unnecessary. Raises `TopologyError`."""
        newest = self._newest
        topology = verify_topology(
            data, self._trust, self._wall_clock(), newer_than=0 if newest is None else newest.serial
        )
        if newest is None or topology.serial > newest.serial:
            self._grown = self._clock.seconds()
            self._newest = topology
            self.order.remove(name)
            self.order.insert(0, name)
            age = self._wall_clock() - topology.published / 1e9
            return topology, age < STALE * topology.refresh
        return topology, self._clock.seconds() - self._grown < STALE * topology.refresh


class _Search:
    """One question for the topology."""

    def __init__(self, several: SeveralDirectories) -> None:
        self._several = several
        self.done: Deferred[bytes] = Deferred(lambda _: self._stop())
        self._best: tuple[int, bytes] | None = None
        self._causes: list[str] = []
        self._asked: dict[str, Deferred[Any]] = {}
        self._open = 0
        self._finished = False
        self._is_first = several._newest is None  # the newest serial is not known yet
        self._call: Any = several._clock.callLater(PATIENCE, self._ask_all)
        self._ask(several.order[0])

    def _ask(self, name: str) -> None:
        self._open += 1
        asking = maybeDeferred(self._several._directories[name].topology)
        self._asked[name] = asking
        asking.addCallback(self._answered, name)
        asking.addErrback(self._failed, name)
        asking.addBoth(self._over)

    def _ask_all(self) -> None:
        for name in list(self._several.order):
            if name not in self._asked and not self._finished:
                self._ask(name)

    def _answered(self, data: bytes, name: str) -> None:
        topology, is_enough = self._several._verify(name, data)
        self._several._is_well(name)
        if self._best is None or topology.serial > self._best[0]:
            self._best = (topology.serial, data)
        if is_enough and not self._is_first and not self._finished:
            self._finish()

    def _failed(self, failure: Any, name: str) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(NymtwError):
            self._several.log.failure("a request to a directory failed", failure=failure)
        self._causes.append(failure.getErrorMessage())
        self._several._is_ill(name, failure.getErrorMessage())

    def _over(self, _: object) -> None:
        self._open -= 1
        self._ask_all()
        if not self._open and not self._finished:
            self._finish()

    def _finish(self) -> None:
        self._stop()
        if self._best is not None:
            self.done.callback(self._best[1])
        else:
            self.done.errback(DirectoryError("; ".join(self._causes) or "no directory has answered"))

    def _stop(self) -> None:
        self._finished = True
        if self._call.active():
            self._call.cancel()
        for asking in self._asked.values():
            asking.cancel()
