"""An implementation in a process of its own: what crosses, what is kept from it, and what follows when it ends."""

import subprocess
import sys
from collections import deque
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nymtw.errors import EncodingError, NymtwError, PluginError, QueueFull, UnknownDestination
from nymtw.provider.api import Request, Service, ServiceLimits
from nymtw.provider.isolation import sandbox
from nymtw.provider.isolation.child import Child, ChildContext, Counts, Outgoing
from nymtw.provider.isolation.parent import (
    FIRST_PAUSE,
    PING,
    SILENT,
    STOPPING,
    IsolatedService,
    ProcessLost,
    isolated,
    spawn,
)
from nymtw.provider.isolation.wire import Wire, pack, read, unpack, write
from nymtw.provider.services.bounded_clock import BoundedClock
from nymtw.provider.services.installed_plugins import find_implementations, load_options
from nymtw.provider.services.metrics import Faults, Metrics
from nymtw.testing.clock import FakeClock
from nymtw.topology.address import Address

TAG = b"t" * 16
LOG = Logger(namespace="nymtw.provider.isolated")


class Implementation(Service):
    """Does what its requests say."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.held: list[Deferred[bytes]] = []
        self.cancelled = 0
        self.past: list[str] = []
        self.sent: list[bool] = []
        self.refuses = ""

    def start(self) -> None:
        if self.refuses:
            raise PluginError(self.refuses)
        self.past.append("started")

    def handle(self, request: Request) -> Any:
        match request.message:
            case b"fail":
                raise KeyError("a secret of the request")
            case b"hold":
                held: Deferred[bytes] = Deferred(self._count)
                self.held.append(held)
                return held
            case b"many":
                for number in range(3):
                    request.reply(b"%d" % number).addCallback(self.sent.append)
                return None
            case b"text":
                return "no bytes"
            case b"count":
                self.context.metrics.count("things", 2)
                return None
        return request.message[::-1]

    def _count(self, _: Any) -> None:
        self.cancelled += 1

    def leave(self) -> None:
        self.past.append("left")

    def stop(self) -> None:
        self.past.append("stopped")


class Transport:
    """One direction of a socket pair: what is written waits until it is pumped."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.peer: Any = None

    def write(self, data: bytes) -> None:
        self.world.queue.append((self.peer, bytes(data)))

    def writeSequence(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        self.world.end()

    abortConnection = loseConnection


class World:
    """A node's end and a child's end, over a socket pair in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue: deque[tuple[Any, bytes]] = deque()
        self.metrics = Metrics()
        self.replies: list[tuple[bytes, bytes, Deferred[bool]]] = []
        self.starts = 0
        self.deaf = self.dead = False
        self.refuses = ""
        self.ends: list[Wire] = []
        self.limits = ServiceLimits(reply_bytes=8000, total_bytes=12_000)
        context = SimpleNamespace(
            clock=BoundedClock(self.clock, 100, lambda: None),
            reactor=None,
            metrics=self.metrics,
            log=LOG,
            reply=self.reply,
            send=self.send,
            topology=lambda: None,
        )
        self.service = IsolatedService(context, self.limits, self.process(), self.again, self.attach)

    def process(self) -> Any:
        self.dead = False
        return SimpleNamespace(kill=self.end)

    def again(self) -> Any:
        return self.process()

    def attach(self, reactor: Any, process: Any, wire: Wire) -> None:
        self.starts += 1
        child_wire = Wire(lambda parts: None if self.deaf else self.child.took(parts), lambda: None)
        outgoing = Outgoing(child_wire.say)
        outgoing.limits = self.limits
        self.context = ChildContext(
            identity=bytes(32),
            clock=self.clock,
            wall_clock=self.clock.wall_clock,
            random=Random(1),
            data=Path("/"),
            log=LOG,
            metrics=Counts(child_wire.say),
            reactor=None,
            outgoing=outgoing,
        )
        self.implementation = Implementation(self.context)
        self.implementation.refuses = self.refuses
        self.child = Child(self.implementation, self.context, child_wire.say, Faults("isolated", LOG), lambda: None)
        self.ends = [wire, child_wire]
        for one, other in ((wire, child_wire), (child_wire, wire)):
            transport: Any = Transport(self)
            transport.peer = other
            one.makeConnection(transport)
        if self.starts > 1:
            child_wire.say("made", {}, True)

    def end(self) -> None:
        """The process is gone."""
        if self.dead or not self.ends:
            return
        self.dead = True
        ends, self.ends = self.ends, []
        self.queue.clear()
        for wire in ends:
            wire.connected = 0
            wire.connectionLost()

    def pump(self) -> None:
        while self.queue:
            wire, data = self.queue.popleft()
            wire.dataReceived(data)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.pump()
            self.clock.advance(0.5)
        self.pump()

    def reply(self, sender: bytes, message: bytes) -> "Deferred[bool]":
        if sender != TAG:
            raise NymtwError("there is no reply block for this sender")
        done: Deferred[bool] = Deferred()
        self.replies.append((sender, message, done))
        return done

    def send(self, message: bytes, recipient: Address) -> "Deferred[bool]":
        raise UnknownDestination

    def ask(self, message: bytes) -> list[Any]:
        """What becomes of a request, once it has."""
        found: list[Any] = []
        self.service.handle(Request(message, TAG, self.reply)).addBoth(found.append)
        self.pump()
        return found


@pytest.fixture
def world() -> World:
    world = World()
    started: list[Any] = []
    world.service.start().addBoth(started.append)
    world.pump()
    assert started == [None]
    return world


def test_requests_go_in_and_answers_come_out(world: World) -> None:
    assert world.ask(b"abc") == [b"cba"]
    assert world.ask(b"count") == [None]
    assert world.metrics["things"] == 2
    for wrong in (b"fail", b"text"):
        [failure] = world.ask(wrong)
        assert failure.check(RuntimeError)
        assert "secret" not in str(failure.value)


def test_replies_are_sent_by_the_node_and_their_fate_is_told(world: World) -> None:
    assert world.ask(b"many") == [None]
    assert [message for _, message, _ in world.replies] == [b"0", b"1", b"2"]
    for arrived, (_, _, done) in zip((True, False, True), world.replies, strict=True):
        done.callback(arrived)
    world.pump()
    assert world.implementation.sent == [True, False, True]


def test_what_the_node_refuses_did_not_arrive(world: World) -> None:
    fates: list[bool] = []
    world.context.reply(b"x" * 16, b"to nobody").addCallback(fates.append)
    world.context.send(b"hello", Address(bytes(32), bytes(32), bytes(32))).addCallback(fates.append)
    world.pump()
    assert fates == [False, False]


def test_the_limits_of_the_node_hold_in_the_process(world: World) -> None:
    for _ in range(2):
        world.context.reply(TAG, bytes(2900))
    with pytest.raises(QueueFull, match="to this correspondent"):
        world.context.reply(TAG, bytes(2900))
    world.context.reply(b"u" * 16, bytes(1000))
    with pytest.raises(QueueFull, match="already"):
        world.context.reply(b"v" * 16, bytes(2900))
    world.pump()
    for _, _, done in world.replies:
        done.callback(True)
    world.pump()
    world.context.reply(TAG, bytes(2900))


def test_a_request_that_is_given_up_is_cancelled_there(world: World) -> None:
    failures: list[Any] = []
    asked = world.service.handle(Request(b"hold", TAG, world.reply))
    asked.addErrback(failures.append)
    world.pump()
    asked.cancel()
    world.pump()
    assert world.implementation.cancelled == 1
    assert len(failures) == 1


def test_a_process_that_ends_is_started_again_alone(world: World) -> None:
    waiting = world.ask(b"hold")
    world.end()
    assert waiting[0].check(ProcessLost)
    held = world.ask(b"abc")
    assert held == [], "while there is none, requests wait"
    assert world.metrics["processes-lost"] == 1
    world.run(2 * FIRST_PAUSE + 1)
    assert world.starts == 2
    assert held == [b"cba"]
    assert world.ask(b"abc") == [b"cba"]
    for pause in (4, 8, 16):
        world.end()
        world.run(pause - 1)
        starts = world.starts
        world.run(2)
        assert world.starts == starts + 1, "who ends again and again is started less and less often"
    world.run(100)
    world.end()
    world.run(FIRST_PAUSE + 1)
    assert world.ask(b"abc") == [b"cba"]


def test_a_process_that_does_not_answer_is_killed(world: World) -> None:
    world.run(10 * PING)
    assert world.starts == 1
    world.deaf = True
    world.run(SILENT + 2 * PING)
    assert world.metrics["processes-lost"] == 1
    world.run(2 * SILENT)
    assert world.metrics["processes-lost"] == 2, "one that hangs while it starts is killed, too"
    world.deaf = False
    world.end()
    world.run(SILENT)
    assert world.ask(b"abc") == [b"cba"]


@pytest.mark.parametrize("data", [pack("answer"), pack("count", 1, 1), pack("unknown"), b"\xc1", pack(1), b""])
def test_a_process_that_speaks_otherwise_is_replaced(world: World, data: bytes) -> None:
    world.queue.append((world.ends[0], len(data).to_bytes(4, "big") + data))
    world.pump()
    assert world.metrics["processes-lost"] == 1
    world.run(2 * FIRST_PAUSE + 1)
    assert world.ask(b"abc") == [b"cba"]


def test_it_leaves_and_stops_and_nothing_is_left(world: World) -> None:
    ended: list[Any] = []
    world.service.leave().addBoth(ended.append)
    world.pump()
    Deferred.fromCoroutine(world.service.stop()).addBoth(ended.append)
    world.pump()
    assert ended == [None, None]
    assert world.implementation.past == ["started", "left", "stopped"]
    assert world.clock.getDelayedCalls() == []


def test_a_process_that_does_not_stop_is_killed(world: World) -> None:
    world.deaf = True
    ended: list[Any] = []
    Deferred.fromCoroutine(world.service.stop()).addBoth(ended.append)
    world.run(STOPPING + 1)
    assert ended == [None]
    assert world.dead
    assert world.clock.getDelayedCalls() == []


def test_an_implementation_that_does_not_start_says_why() -> None:
    world = World()
    world.refuses = "its database is away"
    failures: list[Any] = []
    world.service.start().addErrback(failures.append)
    world.pump()
    assert str(failures[0].value) == "its database is away"
    world.run(100)
    assert world.starts == 1


@given(st.binary(max_size=60))
def test_hostile_bytes_are_no_message(data: bytes) -> None:
    try:
        assert isinstance(unpack(data)[0], str)
    except EncodingError:
        pass


SCRIPT = """
import pathlib, sys
from nymtw.provider.isolation.sandbox import forbid
base, own = map(pathlib.Path, sys.argv[1:])
assert forbid(base, own)
(own / "kept").write_text("mine")
print((own / "kept").read_text(), pathlib.Path("/etc/hostname").exists(), len(pathlib.__file__) > 0)
for path in ("mixnodes/one/config/key.pem", "providers/one/config/key.pem", "providers/one/data/other/mail"):
    for act in (lambda p: p.read_text(), lambda p: p.write_text("x"), lambda p: p.unlink()):
        try:
            act(base / path)
            print("REACHED", path)
        except PermissionError:
            pass
"""


@pytest.mark.skipif(not sandbox.is_available(), reason="this system has no Landlock")
def test_the_keys_of_the_node_are_out_of_reach(tmp_path: Path) -> None:
    own = tmp_path / "providers" / "one" / "data" / "webproxy"
    own.mkdir(parents=True)
    for place in ("mixnodes/one/config/key.pem", "providers/one/config/key.pem", "providers/one/data/other/mail"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("secret")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(own)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["mine", "True", "True"]


def test_what_is_allowed_is_all_but_that(tmp_path: Path) -> None:
    own = tmp_path / "base" / "own"
    own.mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "base")
    found = sandbox.allowed(tmp_path / "base", own)
    assert own in found
    assert tmp_path / "beside" in found
    assert not {tmp_path / "base", tmp_path, tmp_path / "link", Path("/")} & set(found)


def context_in(folder: Path) -> Any:
    data = folder / "providers" / "one" / "data" / "impl"
    data.mkdir(parents=True)
    return SimpleNamespace(identity=bytes(32), data=data, log=LOG)


@pytest.mark.integration
def test_a_real_process(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    made = {"name": "echo", "options": {}, "identity": bytes(32), "data": str(context.data), "forbidden": str(tmp_path)}
    process = spawn(made)
    process.connection.settimeout(100)
    kind, limits, safe = read(process.connection)
    assert (kind, ServiceLimits(**limits), safe) == ("made", ServiceLimits(), sandbox.is_available())
    for said, answered in (
        (("start",), ["started"]),
        (("handle", 7, b"hello", TAG), ["answer", 7, b"hello"]),
        (("ping",), ["pong"]),
        (("stop",), ["stopped"]),
    ):
        write(process.connection, *said)
        assert read(process.connection) == answered
    assert process.popen.wait(100) == 0
    process.connection.close()


@pytest.mark.integration
def test_what_has_mailboxes_stays_in_the_node_and_wrong_options_are_said(tmp_path: Path) -> None:
    context, found = context_in(tmp_path), find_implementations()

    def begin(name: str, *words: str) -> Any:
        factory = found.choose(name)
        options = load_options(factory)()
        options.parseOptions(list(words))
        return isolated(factory, context, options, load_options(factory), tmp_path)

    assert begin("store") is None
    with pytest.raises(NymtwError, match="policy"):
        begin("exit", f"--exit-policy={tmp_path}/nowhere")
