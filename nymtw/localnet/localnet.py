"""A network of real processes on this machine: start it, wait until it is complete, speak to its clients, stop it."""

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nymtw.client.sockets.tokens import REQUEST, read_token, token_file
from nymtw.errors import ConfigError, DirectoryError, NymtwError
from nymtw.localnet.client_socket import ClientSocket, ClientSocketError, connect
from nymtw.localnet.layout import Layout, lay_out
from nymtw.localnet.lookout import Lookout, Patience
from nymtw.localnet.processes import ComponentDied, Processes, sleep, tail
from nymtw.localnet.rates import USUAL, Rates, usable_cores
from nymtw.node.directories.http_directory import HTTPDirectory
from nymtw.node.home import private_folder

POLL_INTERVAL = 0.1
TIMEOUT = 120.0  # seconds without any progress


class NetworkIncomplete(NymtwError):
    """The network was not complete in time."""


class PortTaken(ComponentDied):
    """A process could not listen on the port that was chosen for it."""


class Localnet:
    """One network whose files are in `folder`: `home/`, `logs/`. Used by one process at a time."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        mixnodes_per_layer: int = 2,
        providers: int = 2,
        gateways: int = 1,
        *,
        rates: Rates = USUAL,
        padded: bool = False,
        timeout: float = TIMEOUT,
        at_once: int | None = None,
    ) -> None:
        """Takes the folder and chooses ports; nothing runs yet. Raises `ConfigError`, `KeyFileError`, `ListenError`.

        `timeout`: seconds without any progress after which a start has failed. `at_once`: how many processes may be
        on their way at a time; None: one more than there are cores.
        """
        self._reactor = reactor
        self._rates = rates
        self._timeout = timeout
        self._at_once = at_once or usable_cores() + 1
        self.folder = private_folder(folder.absolute())
        self._lock = _lock(self.folder)
        self._size = mixnodes_per_layer, providers, gateways
        self._padded = padded
        self.logs = private_folder(self.folder / "logs")
        self.home = private_folder(self.folder / "home")
        self.layout: Layout = lay_out(self.home, *self._size, rates, padded)
        self.processes = Processes(reactor, self.home, self.logs)

    async def start(self) -> None:
        """Start the directory, and wait until it answers: the others would only ask it in vain before.

        Raises `PortTaken` or another `ComponentDied`, `NetworkIncomplete`.
        """
        first = self.layout.components[0]
        self.processes.start(first)
        directory = HTTPDirectory(self._reactor, self.layout.directory_url)
        patience = Patience(self._reactor.seconds(), self._timeout)
        try:
            while not await _answers(directory):
                self._check()
                if patience.is_over(self._reactor.seconds()):
                    raise NetworkIncomplete(self._diagnosis([first.name]))
                await sleep(self._reactor, POLL_INTERVAL)
        finally:
            await directory.close()

    async def restart_elsewhere(self) -> None:
        """Stop what runs, and choose ports again, for the next `start`: unusual ones, which no other localnet wants."""
        await self.processes.stop()
        self.processes = Processes(self._reactor, self.home, self.logs)
        self.layout = lay_out(self.home, *self._size, self._rates, self._padded, usual_ports=False)

    async def complete(self, show: Callable[[str], None] = lambda text: None) -> None:
        """Start the others, a few at a time, and wait until every node has announced itself and the clients' loops come
        back, so that a message arrives from now on. `show` is told who is waited for.

        Raises `PortTaken` or another `ComponentDied` if one ends, `NetworkIncomplete` where nothing goes on any more.
        """
        _, *waiting = self.layout.components
        look = Lookout(self._reactor, self.layout, self.client)
        patience = Patience(self._reactor.seconds(), self._timeout)
        total = len(self.layout.components)
        try:
            while missing := await look.missing():
                self._check()
                started = {process.component.name for process in self.processes}
                on_their_way = [name for name in missing if name in started]
                while waiting and len(on_their_way) < self._at_once:
                    on_their_way.append(self.processes.start(waiting.pop(0)).component.name)
                now = self._reactor.seconds()
                patience.see((len(waiting), *look.signs), now)
                if patience.is_over(now):
                    raise NetworkIncomplete(self._diagnosis(missing))
                more = f", then {len(waiting)} more" if waiting else ""
                show(f"{total - len(missing)} of {total} are there; waiting for {', '.join(on_their_way)}{more}")
                await sleep(self._reactor, POLL_INTERVAL)
        finally:
            await look.close()

    async def client(self, name: str, pushed: Callable[[str, Mapping[str, Any]], None]) -> ClientSocket:
        """A connection to the socket of the client `name`. Raises `ClientSocketError` where it is not there yet."""
        port = self.layout.client_ports[name]
        token = read_token(token_file(port, self.home))
        if token is None:
            raise ClientSocketError(f"{name} has no socket yet")
        socket = await connect(self._reactor, port, pushed)
        await socket.request(REQUEST, {"token": token})
        return socket

    async def stop(self) -> list[str]:
        """Stop every process; returns the names of those that had to be killed."""
        try:
            return await self.processes.stop()
        finally:
            self.release()

    def release(self) -> None:
        """Let others use the folder; `stop` does it, too."""
        os.close(self._lock)

    def _check(self) -> None:
        try:
            self.processes.check()
        except ComponentDied as error:
            raise PortTaken(str(error)) if "cannot listen on" in str(error) else error from None

    def _diagnosis(self, missing: list[str]) -> str:
        lines = [f"nothing has gone on for {self._timeout:.0f} seconds (--timeout); missing: {', '.join(missing)}"]
        for name in missing[:3]:
            log = self.logs / f"{name}.log"
            end = tail(log)
            if not end:
                lines.append(f"{name} has written nothing yet to {log}: it is still being loaded, or was not started")
                continue
            lines += [f"the end of {log}:", *(f"    {line}" for line in end)]
        return "\n".join(lines)


async def _answers(directory: HTTPDirectory) -> bool:
    try:
        await directory.nodes()
    except DirectoryError:
        return False
    return True


def _lock(folder: Path) -> int:
    """Keep the folder for this process. Raises `ConfigError`."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"{folder}: another localnet is using this folder") from None
    return descriptor
