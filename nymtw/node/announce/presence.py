"""Tells the directory, every two seconds, that a node is there."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime

from nymtw.interfaces import IDirectory
from nymtw.node.announce.poster import Poster

INTERVAL = 2.0  # seconds between heartbeats; the directory forgets a node after 5


class Presence(Poster):
    """Posts what `make` returns (a signed heartbeat, made anew each time) to the presence `path`.

    `announced` is whether the last one was taken. When it stops, the directory forgets the node by itself.
    """

    trouble = "cannot announce this node, trying again"
    relief = "announced to the directory again"

    def __init__(
        self,
        clock: IReactorTime,
        directory: IDirectory,
        make: Callable[[], Mapping[str, Any]],
        path: str,
        random: Random,
        interval: float = INTERVAL,
    ) -> None:
        """`path`: "mixnodes", "mixproviders", "gateways" or "nodes"; `interval` in seconds."""
        super().__init__(clock, lambda: directory.announce(path, make()), random, interval)
        self.announced = False

    def succeeded(self) -> None:
        """The directory knows this node."""
        self.announced = True

    def failed(self) -> None:
        """The directory does not know this node, or will forget it soon."""
        self.announced = False
