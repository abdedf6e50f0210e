"""A network of real processes on this machine: start it, wait until it is complete, speak to its clients, stop it."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectError

from nymtw.errors import ConfigError, DirectoryError, NymtwError
from nymtw.localnet.client_socket import ClientSocket, ClientSocketError, connect
from nymtw.localnet.layout import Layout, lay_out
from nymtw.localnet.loops import LoopFlow
from nymtw.localnet.processes import ComponentDied, Processes, sleep, tail
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.home import private_folder

POLL_INTERVAL = 0.1
COMPLETE_LIMIT = 120.0


class NetworkIncomplete(NymtwError):
    """The network was not complete in time."""


class PortTaken(ComponentDied):
    """A process could not listen on the port that was chosen for it."""


class Localnet:
    """One network whose files are in `folder`: `home/`, `logs/`. Used by one process at a time."""

    def __init__(
        self, reactor: Any, folder: Path, mixnodes_per_layer: int = 2, providers: int = 2, gateways: int = 1
    ) -> None:
        """Takes the folder and chooses ports; nothing runs yet. Raises `ConfigError`, `KeyFileError`, `ListenError`."""
        self._reactor = reactor
        self.folder = private_folder(folder.absolute())
        self._lock = _lock(self.folder)
        self._size = mixnodes_per_layer, providers, gateways
        self.logs = private_folder(self.folder / "logs")
        self.home = private_folder(self.folder / "home")
        self.layout: Layout = lay_out(self.home, *self._size)
        self.processes = Processes(reactor, self.home, self.logs)

    async def start(self) -> None:
        """Start every process: the directory, and when it answers the others, who would only ask it in vain before.

        Raises `PortTaken` or another `ComponentDied`, `NetworkIncomplete`.
        """
        first, *others = self.layout.components
        self.processes.start(first)
        directory = HTTPDirectory(self._reactor, self.layout.directory_url)
        end = self._reactor.seconds() + COMPLETE_LIMIT
        while not await _answers(directory):
            self._check()
            if self._reactor.seconds() > end:
                raise NetworkIncomplete(self._diagnosis([first.name]))
            await sleep(self._reactor, POLL_INTERVAL)
        await directory.close()
        for component in others:
            self.processes.start(component)

    async def restart_elsewhere(self) -> None:
        """Stop what runs, and choose ports again, for the next `start`."""
        await self.processes.stop()
        self.processes = Processes(self._reactor, self.home, self.logs)
        self.layout = lay_out(self.home, *self._size)

    async def complete(self, show: Callable[[str], None] = lambda text: None) -> None:
        """Wait until every node has announced itself and the clients' loops come back, telling `show` who is missing.

        Raises `PortTaken` or another `ComponentDied` if one ends, `NetworkIncomplete` after two minutes.
        """
        directory = HTTPDirectory(self._reactor, self.layout.directory_url)
        sockets: dict[str, ClientSocket] = {}
        flows = {name: LoopFlow() for name in self.layout.client_ports}
        total = len(self.layout.components)
        end = self._reactor.seconds() + COMPLETE_LIMIT
        try:
            while missing := await self._missing(directory, sockets, flows):
                self._check()
                if self._reactor.seconds() > end:
                    raise NetworkIncomplete(self._diagnosis(missing))
                show(f"{total - len(missing)} of {total} are there; waiting for {', '.join(missing)}")
                await sleep(self._reactor, POLL_INTERVAL)
        finally:
            for socket in sockets.values():
                socket.close()
            await directory.close()

    async def client(self, name: str, pushed: Callable[[str, Mapping[str, Any]], None]) -> ClientSocket:
        """A connection to the socket of the client `name`."""
        return await connect(self._reactor, self.layout.client_ports[name], pushed)

    async def stop(self) -> list[str]:
        """Stop every process; returns the names of those that had to be killed."""
        try:
            return await self.processes.stop()
        finally:
            os.close(self._lock)

    def _check(self) -> None:
        try:
            self.processes.check()
        except ComponentDied as error:
            raise PortTaken(str(error)) if "cannot listen on" in str(error) else error from None

    async def _missing(
        self, directory: HTTPDirectory, sockets: dict[str, ClientSocket], flows: dict[str, LoopFlow]
    ) -> list[str]:
        """Who is not there yet, the directory first."""
        try:
            present = ports_announced(await directory.nodes())
        except DirectoryError:
            return [component.name for component in self.layout.components]
        missing = [name for name, port in self.layout.node_ports.items() if port not in present]
        for name, flow in flows.items():
            try:
                if name not in sockets:
                    sockets[name] = await self.client(name, lambda kind, body: None)
                status = await sockets[name].request("status")
            except (ConnectError, ClientSocketError):
                sockets.pop(name, None)
                missing.append(name)
                continue
            flow.add(self._reactor.seconds(), status["loopsSent"], status["loopsReturned"])
            if not (status["ready"] and flow.flows):
                missing.append(name)
        return missing

    def _diagnosis(self, missing: list[str]) -> str:
        lines = [f"the network is not complete after {COMPLETE_LIMIT:.0f} seconds: {', '.join(missing)} missing"]
        for name in missing[:3]:
            log = self.logs / f"{name}.log"
            lines += [f"the end of {log}:", *(f"    {line}" for line in tail(log))]
        return "\n".join(lines)


async def _answers(directory: HTTPDirectory) -> bool:
    try:
        await directory.nodes()
    except DirectoryError:
        return False
    return True


def ports_announced(presence: bytes) -> set[int]:
    """The ports for other nodes in the JSON of the directory's presence list."""
    lists = json.loads(presence)
    hosts = [node.get("mixnetListener") or node.get("host", "") for nodes in lists.values() for node in nodes]
    return {int(host.rpartition(":")[2]) for host in hosts if ":" in host}


def _lock(folder: Path) -> int:
    """Keep the folder for this process. Raises `ConfigError`."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"{folder}: another localnet is using this folder") from None
    return descriptor
