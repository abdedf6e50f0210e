"""Services start in order, stop in reverse, one after the other; a taken port is a ListenError."""

import time

import pytest

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from nymtw.errors import ConfigError, ListenError
from nymtw.node.process.clock import use_monotonic
from nymtw.node.service import Listener, NodeService, listen


class Child(Service):
    def __init__(self, name: str, log: list[str], error: Exception | None = None) -> None:
        self.label = name
        self.log = log
        self.error = error
        self.stopping: Deferred[None] = Deferred()

    def startService(self) -> None:
        super().startService()
        self.log.append(f"start {self.label}")
        if self.error is not None:
            raise self.error

    def stopService(self) -> "Deferred[None]":
        super().stopService()
        self.log.append(f"stop {self.label}")
        return self.stopping


def test_children_start_in_order_and_stop_in_reverse_one_after_the_other() -> None:
    log: list[str] = []
    node = NodeService()
    one, two = node.add(Child("one", log)), node.add(Child("two", log))
    node.startService()
    stopped = node.stopService()
    assert log == ["start one", "start two", "stop two"]
    two.stopping.callback(None)
    assert log[-1] == "stop one"
    assert not stopped.called
    one.stopping.callback(None)
    assert stopped.called


def test_a_child_that_cannot_start_stops_those_that_have() -> None:
    log: list[str] = []
    node = NodeService()
    node.add(Child("one", log)).stopping.callback(None)
    node.add(Child("two", log, ConfigError("no"))).stopping.callback(None)
    node.add(Child("three", log))
    with pytest.raises(ConfigError):
        node.startService()
    assert log == ["start one", "start two", "stop two", "stop one"]
    assert not node.running


def test_a_child_whose_stop_fails_does_not_keep_the_others(expected_failures: list[str]) -> None:
    log: list[str] = []
    node = NodeService()
    node.add(Child("one", log)).stopping.callback(None)
    node.add(Child("two", log)).stopping.errback(OSError("disk"))
    node.startService()
    stopped = node.stopService()
    assert stopped.called
    assert log[-1] == "stop one"
    expected_failures.append("{child} did not stop cleanly")


class TakenPort(MemoryReactorClock):  # type: ignore[misc]  # a base without types
    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> None:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


def test_a_taken_port_is_named() -> None:
    with pytest.raises(ListenError) as caught:
        listen(TakenPort(), "127.0.0.1", 1789, Factory())
    assert str(caught.value) == "cannot listen on 127.0.0.1:1789: Address already in use"
    with pytest.raises(ListenError, match=r"\[::1\]:1789"):
        listen(TakenPort(), "::1", 1789, Factory())


def test_a_listener_takes_its_port_once() -> None:
    reactor = MemoryReactorClock()
    listener = Listener(reactor, "127.0.0.1", 1789, Factory())
    assert listener.port == 1789
    listener.privilegedStartService()
    listener.startService()
    assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [(1789, "127.0.0.1")]


def test_a_listener_knows_the_port_it_was_given() -> None:
    class Port:
        def getHost(self) -> IPv4Address:
            return IPv4Address("TCP", "127.0.0.1", 4321)

        def stopListening(self) -> str:
            return "stopped"

    class Reactor:
        def listenTCP(self, port: int, factory: Factory, backlog: int, interface: str) -> Port:
            return Port()

    listener = Listener(Reactor(), "127.0.0.1", 0, Factory())
    listener.startService()
    assert listener.port == 4321
    assert listener.stopService() == "stopped"
    assert listener.stopService() is None


def test_a_reactor_gets_the_monotonic_clock() -> None:
    from twisted.internet.base import ReactorBase

    class Reactor(ReactorBase):
        def installWaker(self) -> None:
            pass

    reactor = Reactor()
    use_monotonic(reactor)
    use_monotonic(reactor)
    assert reactor.seconds is time.monotonic
    call = reactor.callLater(1000, lambda: None)
    assert call.getTime() - time.monotonic() == pytest.approx(1000, abs=1)
    late = Reactor()
    late.callLater(1, lambda: None)
    with pytest.raises(RuntimeError):
        use_monotonic(late)
