"""Asks web proxies for pages, over a client: requests go out with reply blocks, parts of responses come back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from nymtw.client.core import ClientCore
from nymtw.client.receiving.inbox import Received
from nymtw.client.sending.packet_sender import pack_address
from nymtw.errors import EncodingError, NymtwError, TopologyIncomplete
from nymtw.message.envelope import BLOCK_LENGTH
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.message.web import ID_LENGTH, SERVICE, WebHead, WebPart, WebRequest
from nymtw.topology.address import Address

BLOCKS: Final = 60  # reply blocks that the proxy has at least: for a response of 100 KB; it asks for more
MOST_BLOCKS: Final = 240
FEWEST_BLOCKS: Final = 10  # reply blocks sent even if the proxy has enough: some may have been lost
FIRST: Final = 0.2  # seconds of the sending stream for reply blocks, if those are more than `BLOCKS`
PATIENCE: Final = 120.0  # seconds for the next part
_MOST_EARLY: Final = 256  # parts that may arrive before their turn


class WebError(NymtwError):
    """The page could not be fetched."""


@dataclass(slots=True, eq=False)
class Response:
    """One response under way. `take(data)` gets the body in order; `done` fires at the end, or fails."""

    id: bytes
    took_head: Callable[[WebHead], None]
    take: Callable[[bytes], None]
    done: "Deferred[None]" = field(default_factory=Deferred)
    next: int = 0
    early: dict[int, WebPart] = field(default_factory=dict)
    timer: Any = None


class WebClient:
    """Makes requests through any web proxy in the topology, or that at `service`. Other messages stay in the inbox."""

    def __init__(
        self, core: ClientCore, clock: Any, random: Random, topology: Callable[[], Any], service: str | None = None
    ) -> None:
        """`topology()` returns the newest one, or None. Raises `AddressError` for an invalid `service`."""
        self._core, self._clock, self._random, self._topology = core, clock, random, topology
        self._service = None if service is None else Address.parse(service, core.network)
        self._responses: dict[bytes, Response] = {}
        self._subscriber = core.inbox.subscribe(self._received, confirm=True)
        core.inbox.pump(self._subscriber)

    def close(self) -> None:
        """Take no more parts. Responses under way fail."""
        self._core.inbox.leave(self._subscriber)
        for response in list(self._responses.values()):
            self._fail(response, WebError("the client was closed"))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        body: bytes = b"",
        follow: bool = True,
        head: Callable[[WebHead], None],
        take: Callable[[bytes], None],
    ) -> None:
        """Fetch a page. `head` is called once, then `take` with the body as it arrives.

        Raises `WebError`, the errors of `send`, and `TopologyIncomplete` if the network has no web proxy.
        """
        wanted = WebRequest(
            id=self._random.randbytes(ID_LENGTH), method=method, url=url, headers=headers, body=body, follow=follow
        )
        response = Response(wanted.id, head, take)
        self._responses[wanted.id] = response
        self._wait(response)
        try:
            address = self._choose()
            await self._core.send(wanted.encode(), address, self, surbs=self._blocks(address))
            await response.done
        finally:
            self._forget(response)

    def _blocks(self, address: Address) -> int:
        """The number of blocks to send: a long response needs them until further blocks can arrive at the proxy."""
        rate = self._core.sending_rate
        wanted = min(MOST_BLOCKS, max(BLOCKS, int(FIRST * rate * FRAGMENT_CAPACITY / BLOCK_LENGTH)))
        return max(FEWEST_BLOCKS, wanted - self._core.replies.outstanding(pack_address(address)))

    def _choose(self) -> Address:
        if self._service is not None:
            return self._service
        topology = self._topology()
        known = [] if topology is None else topology.services(SERVICE)
        if not known:
            raise TopologyIncomplete("the network has no web proxy")
        return Address.parse(self._random.choice(known), self._core.network)

    def _received(self, received: Received) -> None:
        try:
            part = WebPart.parse(received.data)
        except EncodingError:
            return  # a message for another part of the client
        # Parts of a cancelled response are also taken from the inbox.
        self._core.inbox.confirm([received.message_id])
        response = self._responses.get(part.id)
        if response is not None and part.number >= response.next and len(response.early) < _MOST_EARLY:
            response.early[part.number] = part
            self._wait(response)
            self._in_order(response)

    def _in_order(self, response: Response) -> None:
        while response.next in response.early and not response.done.called:
            part = response.early.pop(response.next)
            response.next += 1
            if part.error:
                self._fail(response, WebError(part.error))
                return
            try:
                if (part.head is None) != (part.number > 0):
                    raise WebError("the web proxy's answer is malformed")
                if part.head is not None:
                    response.took_head(part.head)
                if part.data:
                    response.take(part.data)
            except Exception as error:
                self._fail(response, error)
                return
            if part.last:
                response.done.callback(None)

    def _wait(self, response: Response) -> None:
        if response.timer is not None:
            response.timer.reset(PATIENCE)
        else:
            response.timer = self._clock.callLater(PATIENCE, self._late, response)

    def _late(self, response: Response) -> None:
        response.timer = None
        self._fail(response, WebError(f"no data has arrived for {PATIENCE:.0f} seconds"))

    @staticmethod
    def _fail(response: Response, error: Exception) -> None:
        if not response.done.called:
            response.done.errback(error)

    def _forget(self, response: Response) -> None:
        self._responses.pop(response.id, None)
        response.done.addErrback(lambda failure: None)
        if response.timer is not None:
            response.timer.cancel()
            response.timer = None
