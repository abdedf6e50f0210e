"""The client for Python programs: open it, send, receive, reply. For Twisted and asyncio alike, without threads.

    client = await Client.open("alice")
    await client.send(b"hello", recipient)
    async for message in client.messages():
        await message.reply(b"thanks")

Where an asyncio task calls, what it gets is an asyncio future; elsewhere it is a Deferred. With asyncio the reactor is
the asyncio reactor, which `open` installs on the running loop if there is none.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred

from nymtw.client.asyncio_resolver import AsyncioResolver
from nymtw.client.config import ClientConfig
from nymtw.client.core import Accepted, ClientCore
from nymtw.client.receiving.inbox import Received
from nymtw.client.sending.messages import Progress, State
from nymtw.client.service import ClientService, Environment
from nymtw.errors import ConfigError, DeliveryFailed, NymtwError
from nymtw.node.config import read_config
from nymtw.node.home import NodeHome
from nymtw.node.process.clock import use_monotonic
from nymtw.topology.address import Address

T = TypeVar("T")


def _awaitable(work: "Coroutine[Any, Any, T] | Deferred[T]") -> Awaitable[T]:
    """`work` as an awaitable for the caller."""
    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
    try:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
    except RuntimeError:
        return deferred
    return deferred if task is None else deferred.asFuture(loop)


def _default_reactor() -> Any:
    """The reactor that is installed; in an asyncio task with none, the asyncio reactor on the running loop."""
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is not None and "twisted.internet.reactor" not in sys.modules:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)
    from twisted.internet import reactor as module

    reactor: Any = module
    if loop is not None and not reactor.running:
        use_monotonic(reactor)
        reactor.installNameResolver(AsyncioResolver(loop))
        reactor.startRunning(installSignalHandlers=False)
    return reactor


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived. `id` (16 bytes or more) is the same if it is ever handed over twice."""

    id: bytes
    data: bytes
    tag: bytes | None
    _client: "Client" = field(repr=False)

    def reply(self, data: bytes) -> Awaitable["Sent"]:
        """Answer the sender. Raises `NymtwError` where the sender gave no way to."""
        if self.tag is None:
            raise NymtwError("the sender of this message gave no way to reply")
        return self._client.reply(self.tag, data)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was accepted: it is durable here, and will be delivered or reported as failed."""

    id: bytes
    fragments: int
    queue_length: int
    waits: str  # why nothing of it can be sent now; empty where it can
    _client: "Client" = field(repr=False)

    def progress(self) -> Progress | None:
        """Its progress."""
        return self._client.core.progress(self.id)

    def delivered(self) -> Awaitable[None]:
        """Waits until it is stored at the recipient's provider. Raises `DeliveryFailed`."""
        return _awaitable(self._client._delivered(self.id))


class Client:
    """A running client. Make one with `Client.open`."""

    def __init__(self, service: ClientService, core: ClientCore) -> None:
        self.service = service
        self.core = core
        self._waiting: dict[bytes, list[Deferred[None]]] = {}
        self._handed: set[bytes] = set()
        self._unfollow = core.follow(self._followed)

    @classmethod
    def open(
        cls,
        name: str | None = None,
        *,
        config: Path | ClientConfig | None = None,
        home: NodeHome | None = None,
        reactor: Any = None,
        environment: Environment | None = None,
    ) -> Awaitable[Self]:
        """Start the client called `name` that `nym-client init` made; ready when it is logged in to its provider.

        Or give a `home` and a `config`. `reactor` and `around` are for simulations. Raises `ConfigError`,
        `KeyFileError`.
        """
        return _awaitable(cls._open(name, config, home, reactor, environment))

    @classmethod
    async def _open(
        cls,
        name: str | None,
        config: Path | ClientConfig | None,
        home: NodeHome | None,
        reactor: Any,
        environment: Environment | None,
    ) -> Self:
        if home is None:
            if name is None:
                raise ConfigError("a client is opened by its name, or by its home")
            home = NodeHome("client", name)
        if not isinstance(config, ClientConfig):
            config = read_config(config or home.config_file, ClientConfig)
        reactor = _default_reactor() if reactor is None else reactor
        service = ClientService.from_config(reactor, home, config, None, environment)
        service.privilegedStartService()
        service.startService()
        try:
            client = cls(service, await service.ready())
            await service.logged_in()
        except BaseException:
            service.stopService()
            raise
        return client

    @property
    def address(self) -> str:
        """The address for messages to this client."""
        return self.core.own_address()

    def send(
        self, message: bytes, recipient: str | Address, *, surbs: int = 0, explain: bool = False
    ) -> Awaitable[Sent]:
        """Send `message` (at most 64 MiB); with `surbs` > 0 the recipient can reply without learning who sent.

        Raises `AddressError`, `QueueFull`, `MessageTooLong`.
        """
        if isinstance(recipient, str):
            recipient = Address.parse(recipient, self.core.network)
        return _awaitable(self._sent(self.core.send(message, recipient, self, surbs, explain)))

    def reply(self, tag: bytes, message: bytes) -> Awaitable[Sent]:
        """Send `message` to the sender behind the tag of a message."""
        return _awaitable(self._sent(self.core.reply(tag, message, self)))

    async def messages(self) -> AsyncIterator[Message]:
        """Every message, those that wait first. One is done with when the next is asked for, or the loop is left."""
        arrived: deque[Received] = deque()
        wake: list[Deferred[None]] = []

        def deliver(received: Received) -> None:
            arrived.append(received)
            while wake:
                wake.pop().callback(None)

        subscriber = self.core.inbox.subscribe(deliver, confirm=True)
        try:
            self.core.inbox.pump(subscriber)
            while True:
                while not arrived:
                    waiting: Deferred[None] = Deferred()
                    wake.append(waiting)
                    await _awaitable(waiting)
                received = arrived.popleft()
                self._handed.add(received.message_id)
                try:
                    yield Message(received.message_id, received.data, received.tag, self)
                finally:
                    self._done_with([received.message_id])
        finally:
            self.core.inbox.leave(subscriber)

    def close(self) -> Awaitable[None]:
        """Stop. What is not sent yet is sent when the client is opened again."""
        self._unfollow()
        self._done_with(list(self._handed))  # a loop that was left may not have been finalized yet
        return _awaitable(self.service.stopService())

    def _done_with(self, message_ids: list[bytes]) -> None:
        self.core.inbox.confirm(message_ids)
        self._handed.difference_update(message_ids)

    async def _sent(self, accepting: Coroutine[Any, Any, Accepted]) -> Sent:
        accepted = await accepting
        return Sent(accepted.message_id, accepted.fragments, accepted.queue_length, accepted.waits, self)

    def _followed(self, progress: Progress) -> None:
        if progress.state is not State.SENDING:
            for waiting in self._waiting.pop(progress.message_id, []):
                _end(waiting, progress.state)

    def _delivered(self, message_id: bytes) -> "Deferred[None]":
        waiting: Deferred[None] = Deferred()
        progress = self.core.progress(message_id)
        if progress is not None and progress.state is State.SENDING:
            self._waiting.setdefault(message_id, []).append(waiting)
        else:
            _end(waiting, State.FAILED if progress is None else progress.state)
        return waiting


def _end(waiting: "Deferred[None]", state: State) -> None:
    if state is State.DONE:
        waiting.callback(None)
    else:
        waiting.errback(DeliveryFailed())
