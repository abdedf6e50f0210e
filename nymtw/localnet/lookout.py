"""The present components of a localnet: nodes in the directory, clients whose loops come back."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.error import ConnectError

from nymtw.errors import DirectoryError
from nymtw.localnet.client_socket import ClientSocket, ClientSocketError
from nymtw.localnet.layout import Layout
from nymtw.localnet.loops import LoopFlow
from nymtw.node.directories.http_directory import HTTPDirectory

Connect = Callable[[str, Callable[[str, Mapping[str, Any]], None]], Awaitable[ClientSocket]]


class Patience:
    """Runs out `limit` seconds after the last sign of progress. Pure."""

    def __init__(self, now: float, limit: float) -> None:
        self._since = now
        self._limit = limit
        self._sign: object = None

    def see(self, sign: object, now: float) -> None:
        """Something that is different each time there is progress."""
        if sign != self._sign:
            self._sign, self._since = sign, now

    def is_over(self, now: float) -> bool:
        """Whether there was none for too long."""
        return now - self._since > self._limit


class Lookout:
    """Asks directory and clients, again and again, through connections of its own."""

    def __init__(self, reactor: Any, layout: Layout, connect: Connect) -> None:
        """`connect(name, pushed)` gives a connection to the socket of a client."""
        self._reactor = reactor
        self._layout = layout
        self._connect = connect
        self._directory = HTTPDirectory(reactor, layout.directory_url)
        self._sockets: dict[str, ClientSocket] = {}
        self._flows = {name: LoopFlow() for name in layout.client_ports}
        self._seen: set[str] = set()

    @property
    def signs(self) -> tuple[int, ...]:
        """Counts that grow while there is progress: components ever seen, and returned loops in tenths."""
        return (len(self._seen), *(int(flow.best * 10) for flow in self._flows.values()))

    async def missing(self) -> list[str]:
        """The names of missing components, in the order of the layout."""
        try:
            present = ports_announced(await self._directory.nodes())
        except DirectoryError:
            return [component.name for component in self._layout.components]
        missing = [name for name, port in self._layout.node_ports.items() if port not in present]
        self._seen.update(name for name in self._layout.node_ports if name not in missing)
        for name, flow in self._flows.items():
            if not await self._is_ready(name, flow):
                missing.append(name)
        return missing

    async def close(self) -> None:
        """Hang up."""
        for socket in self._sockets.values():
            socket.close()
        await self._directory.close()

    async def _is_ready(self, name: str, flow: LoopFlow) -> bool:
        try:
            if name not in self._sockets:
                self._sockets[name] = await self._connect(name, lambda kind, body: None)
            status = await self._sockets[name].request("status")
        except (ConnectError, ClientSocketError):
            self._sockets.pop(name, None)
            return False
        flow.add(self._reactor.seconds(), status["loopsSent"], status["loopsReturned"])
        if status["ready"]:
            self._seen.add(name)
        return bool(status["ready"]) and flow.flows


def ports_announced(presence: bytes) -> set[int]:
    """The ports for other nodes in the JSON of the directory's presence list."""
    lists = json.loads(presence)
    hosts = [node.get("mixnetListener") or node.get("host", "") for nodes in lists.values() for node in nodes]
    return {int(host.rpartition(":")[2]) for host in hosts if ":" in host}
