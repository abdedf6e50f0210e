"""One application at one of the client's sockets: its requests, answers, place in the outbox, and subscription.

It uses the client, but no sockets: TCP and websocket pass parsed requests to it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from nymtw.client.receiving.inbox import Inbox, Received, Subscriber
from nymtw.client.sending.messages import Progress
from nymtw.client.sockets.requests import (
    Clients,
    Confirm,
    Details,
    Fetch,
    Reply,
    Request,
    SelfAddress,
    Send,
    Status,
    Subscribe,
    id_text,
    parse_request,
    tag_text,
)
from nymtw.client.sockets.requests import Progress as ProgressRequest
from nymtw.client.sockets.wire import plain_text
from nymtw.errors import NymtwError
from nymtw.topology.address import Address


class AcceptedMessage(Protocol):
    """The result of `send`: the message is durable, and will be delivered or reported as failed."""

    @property
    def message_id(self) -> bytes: ...
    @property
    def fragments(self) -> int: ...
    @property
    def queue_length(self) -> int: ...
    @property
    def waits(self) -> str: ...


class ClientLike(Protocol):
    """The part of a client that applications use; `ClientCore` provides it."""

    network: bytes
    clock: IReactorTime
    inbox: Inbox

    async def send(
        self, data: bytes, recipient: Address, lane: Any = None, surbs: int = 0, explain: bool = False
    ) -> AcceptedMessage: ...
    async def reply(self, tag: bytes, data: bytes, lane: Any = None) -> AcceptedMessage: ...
    def progress(self, message_id: bytes) -> Progress | None: ...
    def trace(self, message_id: bytes) -> list[dict[str, Any]]: ...
    def follow(self, callback: Callable[[Progress], None]) -> Callable[[], None]: ...
    def status(self) -> dict[str, Any]: ...
    def details(self) -> dict[str, Any]: ...
    def clients(self) -> list[dict[str, Any]]: ...
    def own_address(self) -> str: ...


def progress_object(progress: Progress) -> dict[str, Any]:
    """The progress of a message, in the form for applications."""
    return {
        "id": id_text(progress.message_id),
        "state": progress.state.value,
        "acknowledged": progress.acknowledged,
        "fragments": progress.fragments,
    }


def received_object(received: Received) -> dict[str, Any]:
    """A message, in the form for applications: `message` becomes base64 in JSON."""
    found: dict[str, Any] = {"id": id_text(received.message_id), "message": received.data}
    if received.tag is not None:
        found["senderTag"] = tag_text(received.tag)
    return found


def typed_received(received: Received) -> dict[str, Any]:
    """A message in the `type` form, where messages are text. If it is not text, its base64 is added."""
    tag = None if received.tag is None else tag_text(received.tag)
    found: dict[str, Any] = {"type": "received", "senderTag": tag}
    try:
        found["message"] = received.data.decode()
    except UnicodeDecodeError:
        found["message"] = received.data.decode(errors="replace")
        found["base64"] = received.data
    return found


class Application:
    """One application. `write(object)` sends an answer or an event; `handle` answers one request at a time."""

    def __init__(self, client: ClientLike, write: Callable[[dict[str, Any]], None]) -> None:
        self._client, self._write = client, write
        self._subscriber: Subscriber | None = None
        self._typed = False
        self._unfollow: Callable[[], None] | None = None
        self._told: dict[bytes, int] = {}

    async def handle(self, value: Any) -> None:
        """Answer the request in a plain object. Raises `EncodingError` or `AddressError` for an invalid request.

        Errors of a valid request are answered with an exception, and raise nothing.
        """
        request, typed = parse_request(value, self._client.network)
        try:
            answers = await self._answer(request, typed)
        except NymtwError as error:
            answers = [self.exception(error, typed)]
        for answer in answers:
            self._write(answer)
        if typed and self._subscriber is None:
            self._typed = True
            self._subscribe(False)
        elif isinstance(request, Subscribe) and self._subscriber is not None:
            self._client.inbox.pump(self._subscriber)

    @staticmethod
    def exception(error: NymtwError, typed: bool = False) -> dict[str, Any]:
        """The answer to a request that fails."""
        if typed:
            return {"type": "error", "message": plain_text(str(error))}
        return {"exception": {"error": plain_text(str(error))}}

    def pause(self) -> None:
        """Called when the application does not read: messages wait in the inbox."""
        if self._subscriber is not None:
            self._subscriber.ready = False

    def resume(self) -> None:
        """Called when the application reads again."""
        if self._subscriber is not None:
            self._subscriber.ready = True
            self._client.inbox.pump(self._subscriber)

    def closed(self) -> None:
        """The application has disconnected. Its accepted messages are sent all the same."""
        if self._subscriber is not None:
            self._client.inbox.leave(self._subscriber)
            self._subscriber = None
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None

    async def _answer(self, request: Request, typed: bool) -> Iterable[dict[str, Any]]:
        client = self._client
        match request:
            case Send(message, recipient, surbs, explain, lane):
                accepted = await client.send(message, recipient, (self, lane), surbs, explain)
                return [self._accepted("send", accepted, lane, typed)]
            case Reply(message, tag, lane):
                accepted = await client.reply(tag, message, (self, lane))
                return [self._accepted("reply", accepted, lane, typed)]
            case Fetch():
                messages = client.inbox.take()
                return [
                    {"fetch": {"messages": [received_object(one) for one in messages], "waiting": len(client.inbox)}}
                ]
            case Clients():
                return [{"clients": {"clients": client.clients()}}]
            case Details():
                return [{"details": {"details": client.details()}}]
            case SelfAddress():
                return [{"type": "selfAddress", "address": client.own_address()}]
            case Status():
                return [{"status": client.status()}]
            case Subscribe(confirm, progress):
                self._subscribe(confirm)
                if progress and self._unfollow is None:
                    self._unfollow = client.follow(self._progressed)
                return [{"subscribe": {"confirm": confirm, "progress": progress}}]
            case Confirm(ids):
                client.inbox.confirm(ids)
                return [{"confirm": {"ids": [id_text(one) for one in ids]}}]
            case ProgressRequest(message_id, explain):
                found = client.progress(message_id)
                if found is None:
                    raise NymtwError("progress: there is no message with this id")
                answer = progress_object(found)
                if explain:
                    answer["packets"] = client.trace(message_id)
                return [{"progress": answer}]

    def _accepted(self, name: str, accepted: AcceptedMessage, lane: int, typed: bool) -> dict[str, Any]:
        if typed:
            return {"type": "laneQueueLength", "lane": lane, "queueLength": accepted.queue_length}
        answer: dict[str, Any] = {
            "id": id_text(accepted.message_id),
            "fragments": accepted.fragments,
            "laneQueueLength": accepted.queue_length,
        }
        if accepted.waits:
            answer["waits"] = accepted.waits
        return {name: answer}

    def _subscribe(self, confirm: bool) -> None:
        if self._subscriber is None:
            self._subscriber = self._client.inbox.subscribe(self._deliver, confirm)
            if self._typed:
                self._client.inbox.pump(self._subscriber)
        self._subscriber.confirm = confirm

    def _deliver(self, received: Received) -> None:
        self._write(typed_received(received) if self._typed else {"received": received_object(received)})

    def _progressed(self, progress: Progress) -> None:
        # One event for each hundredth of a message: a long message must not flood the application.
        step = progress.acknowledged * 100 // progress.fragments
        if progress.state.value != "sending":
            self._told.pop(progress.message_id, None)
        elif self._told.get(progress.message_id) == step:
            return
        else:
            self._told[progress.message_id] = step
        self._write({"progress": progress_object(progress)})
