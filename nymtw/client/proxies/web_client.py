"""Asks web proxies for pages, over circuits: requests go out with reply blocks, parts of responses come back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred

from nymtw.client.core import ClientCore
from nymtw.client.receiving.circuits import AT_ONCE, Circuit
from nymtw.client.sending.messages import State
from nymtw.client.sending.packet_sender import pack_address
from nymtw.errors import EncodingError, NymtwError, TopologyIncomplete
from nymtw.message.envelope import BLOCK_LENGTH
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.message.web import ID_LENGTH, SERVICE, WebHead, WebPart, WebRequest
from nymtw.topology.address import Address

BLOCKS: Final = 60  # reply blocks that the proxy has at least: for a response of 100 KB; it asks for more
MOST_BLOCKS: Final = 240
FIRST: Final = 0.2  # seconds of the sending stream for reply blocks, if those are more than `BLOCKS`
LIFETIME: Final = 600.0  # seconds in which a circuit takes new requests
MAX_CIRCUITS: Final = 64
PATIENCE: Final = 120.0  # seconds for the next part
_MOST_EARLY: Final = 256  # parts that may arrive before their turn
_LOOK: Final = 30.0  # seconds between two looks for circuits that are too old


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


@dataclass(slots=True, eq=False)
class _Path:
    """A circuit to a web proxy, for the requests to one origin."""

    began: float
    circuit: Circuit = field(init=False)
    running: set[bytes] = field(default_factory=set)  # ids of responses
    failed: bool = False


class WebClient:
    """Makes requests through any web proxy in the topology, or that at `service`.

    The requests to one origin share a circuit for some minutes, as the connections of `ExitStreams` do: those to
    others, and later ones, have other tags, and often another proxy. No proxy can link them, and nothing is kept.
    """

    def __init__(
        self, core: ClientCore, clock: Any, random: Random, topology: Callable[[], Any], service: str | None = None
    ) -> None:
        """`topology()` returns the newest one, or None. Raises `AddressError` for an invalid `service`."""
        self._core, self._clock, self._random, self._topology = core, clock, random, topology
        self._service = None if service is None else Address.parse(service, core.network)
        self._responses: dict[bytes, Response] = {}
        self._paths: dict[str, _Path] = {}
        self._retired: set[_Path] = set()
        self._timer: Any = None

    def close(self) -> None:
        """Take no more parts. Responses under way fail."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for response in list(self._responses.values()):
            self._fail(response, WebError("the client was closed"))
        for path in [*self._paths.values(), *self._retired]:
            path.circuit.close()
        self._paths.clear()
        self._retired.clear()

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
        data = wanted.encode()
        path = self._path(origin_of(url))
        response = Response(wanted.id, head, take)
        self._responses[wanted.id] = response
        path.running.add(wanted.id)
        self._wait(response)
        message = None
        try:
            message = path.circuit.post(data, wanted.id, blocks=AT_ONCE, ended=partial(self._sent, response))
            path.circuit.stock(self._blocks())
            await response.done
        except WebError:
            path.failed = path.failed or response.next == 0  # its proxy may be gone: the next request asks another
            raise
        finally:
            if message is not None and response.next == 0:
                path.circuit.cancel(message)
            self._forget(response)
            path.running.discard(wanted.id)
            self._close_retired()

    def _blocks(self) -> int:
        """The blocks that the proxy should have: a long response needs them until further blocks can arrive there."""
        rate = self._core.sending_rate
        return min(MOST_BLOCKS, max(BLOCKS, int(FIRST * rate * FRAGMENT_CAPACITY / BLOCK_LENGTH)))

    def _sent(self, response: Response, state: State) -> None:
        if state is not State.DONE:
            self._fail(response, WebError("the request did not arrive at the web proxy"))

    # circuits

    def _path(self, origin: str) -> _Path:
        now = self._clock.seconds()
        path = self._paths.get(origin)
        if path is not None and now - path.began < LIFETIME and not path.failed:
            return path
        if path is not None:
            self._retire(origin)
        if len(self._paths) + len(self._retired) >= MAX_CIRCUITS:
            idle = next((origin for origin, path in self._paths.items() if not path.running), None)
            if idle is None:
                raise WebError("too many sites are being visited at once")
            self._retire(idle)
        new = _Path(now)
        new.circuit = self._core.circuits.open(pack_address(self._choose()), partial(self._received, new))
        self._paths[origin] = new
        if self._timer is None:
            self._timer = self._clock.callLater(_LOOK, self._look)
        return new

    def _retire(self, origin: str) -> None:
        self._retired.add(self._paths.pop(origin))
        self._close_retired()

    def _close_retired(self) -> None:
        for path in [path for path in self._retired if not path.running]:
            self._retired.discard(path)
            path.circuit.close()

    def _look(self) -> None:
        """Close what is too old, also if nothing is asked for any more."""
        now = self._clock.seconds()
        for origin in [origin for origin, path in self._paths.items() if now - path.began >= LIFETIME]:
            self._retire(origin)
        self._timer = self._clock.callLater(_LOOK, self._look) if self._paths else None

    def _choose(self) -> Address:
        if self._service is not None:
            return self._service
        topology = self._topology()
        known = [] if topology is None else topology.services(SERVICE)
        if not known:
            raise TopologyIncomplete("the network has no web proxy")
        return Address.parse(self._random.choice(known), self._core.network)

    # responses

    def _received(self, path: _Path, data: bytes) -> None:
        try:
            part = WebPart.parse(data)
        except EncodingError:
            return
        response = self._responses.get(part.id) if part.id in path.running else None
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


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: what shares a circuit. A URL that has none is an origin of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"
    except ValueError:
        return url
