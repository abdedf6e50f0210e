"""An exit over real sockets of this machine: half-close, resets, back-pressure, the resolver of the system."""

import errno
import random
from typing import Any

import pytest
import pytest_twisted
from exit_bench import Flood, Serving, Stream

from twisted.internet.defer import Deferred
from twisted.internet.error import getConnectError
from twisted.internet.task import deferLater

from nymtw.message.stream import WINDOW, StreamFailure, StreamMessage, StreamOpen
from nymtw.provider.api import Request
from nymtw.provider.exit.dialer import failure_of
from nymtw.provider.exit.service import Options, make_provider
from nymtw.provider.services.metrics import Metrics

TAG = b"t" * 16


class Line:
    """An exit on the real reactor, and streams to it over a line that loses nothing: context, world and caller."""

    def __init__(self, *argv: str) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock: Any = reactor
        self.metrics = Metrics()
        self.random = random.Random(1)
        self.world = self
        self.streams: dict[bytes, Stream] = {}
        options = Options()
        options.parseOptions(list(argv))
        self.exit: Any = make_provider(self, options)  # type: ignore[arg-type]
        self.exit.start()
        self.ports: list[Any] = []

    def listen(self, **how: Any) -> Serving:
        serving = Serving(**how)
        serving.port = self.reactor.listenTCP(0, serving, interface="127.0.0.1")
        self.ports.append(serving.port)
        return serving

    def open(self, host: str, port: Any, data: bytes = b"", **how: Any) -> Stream:
        number = port if isinstance(port, int) else port.port.getHost().port
        stream = Stream(self, StreamOpen(host=host, port=number), data, **how)  # type: ignore[arg-type]
        self.streams[stream.id] = stream
        stream.pump()
        return stream

    def send_message(self, message: StreamMessage) -> None:
        self.reactor.callLater(0, self._come, message)

    def _come(self, message: StreamMessage) -> None:
        self.exit.handle(Request(message.encode(), TAG, self.reply))
        stream = self.streams[message.stream]
        if not message.reset:
            stream.sending.arrived(message.number)
            stream.pump()

    def reply(self, tag: bytes, data: bytes) -> "Deferred[bool]":
        done: Deferred[bool] = Deferred()

        def come() -> None:
            message = StreamMessage.parse(data)
            self.streams[message.stream].take(message)
            done.callback(True)

        self.reactor.callLater(0, come)
        return done

    async def until(self, condition: Any) -> None:
        for _ in range(6000):
            if condition():
                return
            await deferLater(self.reactor, 0.005)
        raise TimeoutError

    async def stop(self) -> None:
        self.exit.stop()
        for port in self.ports:
            await port.stopListening()


def over_sockets(*argv: str) -> Any:
    def decorate(function: Any) -> Any:
        async def run() -> None:
            line = Line(*argv)
            try:
                await function(line)
                assert len(line.exit) == 0, "every stream has come to an end"
            finally:
                await line.stop()

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return pytest_twisted.ensureDeferred(run)

    return decorate


@over_sockets("--exit-private")
async def test_three_mebibytes_each_way_and_a_half_close(line: Line) -> None:
    up, down = line.random.randbytes(3 * 2**20), line.random.randbytes(3 * 2**20)
    serving = line.listen(answer=down)
    stream = line.open("127.0.0.1", serving, up)
    stream.end()
    await line.until(lambda: stream.over and stream.ended)
    assert bytes(stream.got) == down
    assert bytes(serving.connections[0].got) == up
    await line.until(lambda: len(line.exit) == 0 and serving.connections[0].lost is not None)
    assert str(serving.connections[0].lost) == "Connection was closed cleanly."
    assert not stream.was_reset


@over_sockets("--exit-private")
async def test_a_server_that_ends_first_still_gets_what_the_client_sends(line: Line) -> None:
    serving = line.listen(greeting=b"your turn")
    stream = line.open("127.0.0.1", serving)
    await line.until(lambda: stream.got == b"your turn")
    serving.connections[0].transport.loseWriteConnection()
    await line.until(lambda: stream.ended)
    data = line.random.randbytes(2**20)
    stream.write(data)
    stream.end()
    await line.until(lambda: serving.connections[0].ended)
    assert bytes(serving.connections[0].got) == data
    serving.connections[0].transport.loseConnection()
    await line.until(lambda: len(line.exit) == 0)
    assert not stream.was_reset


@over_sockets("--exit-private")
async def test_resets_from_each_end(line: Line) -> None:
    serving = line.listen(greeting=b"hello")
    one, other = line.open("127.0.0.1", serving), line.open("127.0.0.1", serving)
    await line.until(lambda: one.got and other.got)
    one.reset()
    await line.until(lambda: any(server.lost for server in serving.connections))
    [server] = [server for server in serving.connections if not server.lost]
    assert not other.was_reset
    server.transport.abortConnection()
    await line.until(lambda: other.was_reset)
    assert other.got == b"hello"


@over_sockets("--exit-private")
async def test_a_server_that_has_closed_does_not_take_what_is_sent_to_it(line: Line) -> None:
    serving = line.listen(greeting=b"bye")
    stream = line.open("127.0.0.1", serving)
    await line.until(lambda: bool(serving.connections))
    serving.connections[0].transport.loseConnection()
    await line.until(lambda: stream.ended)
    assert (stream.got, stream.was_reset) == (b"bye", False)
    stream.write(b"what?")
    await line.until(lambda: serving.connections[0].lost is not None)
    stream.write(b"hello?")
    for _ in range(5):
        await deferLater(line.reactor, 0.01)
        stream.write(b"anybody?")
    await line.until(lambda: stream.was_reset)


@pytest.mark.long
@over_sockets("--exit-private")
async def test_a_server_that_does_not_read_stops_the_client_and_gets_all_when_it_does(line: Line) -> None:
    serving = line.listen(holds=True)
    data = bytes(range(256)) * 4096 * 40
    stream = line.open("127.0.0.1", serving, data)
    stream.end()
    await line.until(lambda: stream.opened and stream.sending.room() == 0 and stream.sending.is_empty)
    client = line.exit.clients[TAG]
    waiting = client.streams[stream.id]
    assert stream.sending.sent < len(data)
    assert waiting.for_server <= WINDOW
    # Twisted keeps what a transport has taken in two places, and shows neither.
    unsent = len(waiting.transport.dataBuffer) + waiting.transport._tempDataLen  # noqa: SLF001
    assert unsent <= 2 * 65536
    serving.connections[0].transport.resumeProducing()
    await line.until(lambda: serving.connections[0].ended)
    assert bytes(serving.connections[0].got) == data
    serving.connections[0].transport.loseConnection()
    await line.until(lambda: len(line.exit) == 0)


@over_sockets("--exit-private")
async def test_a_server_that_floods_waits_for_credit(line: Line) -> None:
    serving = line.listen()
    stream = line.open("127.0.0.1", serving, reads=False)
    await line.until(lambda: bool(serving.connections))
    Flood(serving.connections[0].transport)
    await line.until(lambda: line.exit.clients[TAG].streams[stream.id].server_is_held)
    assert len(stream.got) == 65536
    assert line.exit.clients[TAG].streams[stream.id].for_client <= 2 * 65536
    stream.reset()
    await line.until(lambda: serving.connections[0].lost is not None)


@over_sockets("--exit-private")
async def test_a_port_where_nobody_listens(line: Line) -> None:
    serving = line.listen()
    number = serving.port.getHost().port
    await line.ports.pop().stopListening()
    stream = line.open("127.0.0.1", number)
    await line.until(lambda: stream.failed is not None)
    assert stream.failed is StreamFailure.REFUSED


@over_sockets()
async def test_what_the_systems_resolver_makes_of_names_that_lead_here(line: Line) -> None:
    serving = line.listen(greeting=b"inside")
    hosts = ("localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1", "::1", "0")
    streams = [line.open(host, serving) for host in hosts]
    await line.until(lambda: all(stream.failed for stream in streams))
    assert {stream.failed for stream in streams} <= {StreamFailure.NOT_ALLOWED, StreamFailure.NAME_UNKNOWN}
    assert [stream.failed for stream in streams if stream.failed is StreamFailure.NOT_ALLOWED]
    assert streams[0].failed is StreamFailure.NAME_UNKNOWN
    assert serving.connections == []


@over_sockets("--exit-private")
async def test_a_name_of_this_machine(line: Line) -> None:
    serving = line.listen(greeting=b"inside")
    stream = line.open("localhost", serving)
    await line.until(lambda: stream.got == b"inside")
    stream.reset()
    await line.until(lambda: len(line.exit) == 0)
    assert stream.failed is None


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.ECONNREFUSED, StreamFailure.REFUSED),
        (errno.ENETUNREACH, StreamFailure.NETWORK_UNREACHABLE),
        (errno.EHOSTUNREACH, StreamFailure.HOST_UNREACHABLE),
        (errno.ETIMEDOUT, StreamFailure.TIMED_OUT),
        (errno.EACCES, StreamFailure.GENERAL),
    ],
)
def test_what_the_system_says_of_a_connection(number: int, failure: StreamFailure) -> None:
    assert failure_of(getConnectError((number, "what it says"))) is failure
