"""Suites that the author of a provider runs in three lines:

    class TestMine(ServiceContract):
        implementation = "mine"
        request = b"what it understands"

`ServiceContract` is for an `IService`, `ProviderContract` for an `IProvider`. They run over transports in memory, and
are collected by pytest with the fixtures of `nymtw.testing.pytest_plugin`; they need no reactor.
"""

import gc
import tracemalloc
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from zope.interface.verify import verifyObject

from nymtw.drop_reasons import DropReason
from nymtw.interfaces import IProvider, IService
from nymtw.message.envelope import Envelope, EnvelopeKind
from nymtw.provider.delivery import MailKind
from nymtw.provider.services.adapter import ServiceProvider
from nymtw.sphinx import GEOMETRIES, SizeClass
from nymtw.testing.service_bench import EPOCH, ServiceBench

_LENGTH = GEOMETRIES[SizeClass.REGULAR].packet_length
_MANY = 10_000
# What the second half of ten thousand requests may add to what the first half has left, in bytes.
_GROWTH = 8 * 2**20
_REFUSALS = {DropReason.UNKNOWN_DESTINATION, DropReason.MAILBOX_FULL, DropReason.MALFORMED_PAYLOAD}


class ServiceContract:
    """What every `IService` does, however it is asked.

    `implementation` is the name of its plugin, or an `IProviderFactory`; `argv` its options on the command line.
    """

    implementation: ClassVar[Any]
    argv: ClassVar[Sequence[str]] = ()
    request: ClassVar[bytes] = b"hello"
    answers: ClassVar[int] = 1
    """How many messages `request` is answered with, at least; 0 if it is not answered."""
    reaches_out: ClassVar[bool] = False
    """Whether it may open connections of its own: only for a service whose purpose that is."""
    limit: ClassVar[float] = 300.0
    """Seconds of network time within which the answers come."""

    def prepare(self, bench: ServiceBench) -> None:
        """Put into `bench.network` what the service needs to reach."""

    @pytest.fixture
    def bench(self, seed: int) -> Any:
        bench = ServiceBench(self.implementation, self.argv, seed=seed)
        self.prepare(bench)
        with bench:
            yield bench

    def test_it_is_a_service_within_limits(self, bench: ServiceBench) -> None:
        service = _service(bench)
        assert verifyObject(IService, service)
        assert service.limits.concurrent > 0
        assert 0 < service.limits.seconds < 24 * 3600

    def test_a_request_is_answered_over_the_mixnet_alone(self, bench: ServiceBench) -> None:
        person = bench.asker()
        person.ask(self.request, 50)
        bench.clock.advance_until(lambda: len(person.answers) >= self.answers, self.limit)
        bench.clock.advance(30)
        assert all((first, epoch) == (bench.entry, EPOCH) for first, epoch, _ in bench.submitted)
        assert {len(packet) for _, _, packet in bench.submitted} <= {_LENGTH}, "a packet of another length"
        assert self.reaches_out or not bench.network.connections(), "it speaks to others than through the mixnet"
        assert bench.metrics.get("failed", 0) == 0

    def test_each_reply_block_is_used_once(self, bench: ServiceBench) -> None:
        person = bench.asker()
        person.ask(self.request, 5)
        bench.clock.advance_until(lambda: len(person.answers) >= self.answers, self.limit)
        bench.clock.advance(30)
        headers = [packet[:32] for _, _, packet in bench.submitted]
        assert len(set(headers)) == len(headers)
        assert len(headers) <= person.given

    def test_answers_arrive_though_packets_are_lost(self, seed: int) -> None:
        bench = ServiceBench(self.implementation, self.argv, seed=seed, loss=0.05)
        self.prepare(bench)
        with bench:
            person = bench.asker()
            person.ask(self.request, 50)
            bench.clock.advance_until(lambda: len(person.answers) >= self.answers, self.limit)
            assert len(person.answers) >= self.answers

    def test_what_nobody_should_send_is_contained(self, bench: ServiceBench) -> None:
        random, address = bench.random, bench.service_host.address
        for data in (b"", b"\0", random.randbytes(1000), b"\xff" * 5000, self.request[:-1], self.request + b"\0", b"{"):
            bench.asker().ask(data, 3)
            bench.asker().ask(data, 0)
        for body in (b"", random.randbytes(100), Envelope(EnvelopeKind.RECEIPT, b"?", b"t" * 16).encode()):
            bench.deliver_message(body)
        for content in (b"", bytes(1580), random.randbytes(1580), random.randbytes(2413)):
            for kind in MailKind:
                bench.deliver(content, kind)
                bench.deliver(content, kind, address.encryption_key)
        bench.clock.advance(_service(bench).limits.seconds + 60)
        assert set(bench.dropped) <= _REFUSALS
        self._still_answers(bench)

    def test_a_request_whose_sender_wants_no_answer(self, bench: ServiceBench) -> None:
        bench.asker().ask(self.request, 0)
        bench.clock.advance(_service(bench).limits.seconds + 60)
        assert bench.submitted == []
        self._still_answers(bench)

    def test_memory_is_bounded_under_ten_thousand_requests(self, bench: ServiceBench) -> None:
        limits, person = _service(bench).limits, bench.asker()
        person.ask(self.request, 50)
        self._ask_many(bench, person.tag, _MANY // 2)
        gc.collect()
        tracemalloc.start()
        try:
            self._ask_many(bench, person.tag, _MANY // 2)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < _GROWTH, f"{grown} bytes more after {_MANY // 2} requests more"
        assert len(bench.service_host.provider) <= limits.concurrent + limits.waiting
        assert bench.service_host.dispatch.size <= limits.total_bytes
        assert len(bench.clock.getDelayedCalls()) <= limits.timers

    def test_it_stops_in_the_midst_of_requests_and_leaves_nothing(self, seed: int) -> None:
        bench = ServiceBench(self.implementation, self.argv, seed=seed)
        self.prepare(bench)
        bench.start()
        for _ in range(20):
            bench.asker().ask(self.request, 3)
        bench.clock.advance(0.01)
        bench.stop()
        assert bench.metrics.get("timers-left", 0) == 0, "the service has left timers behind"
        before = len(bench.submitted)
        bench.clock.advance(1)
        ours = [call for call in bench.clock.getDelayedCalls() if getattr(call, "owner", None) is bench.host]
        assert not ours, "timers are left behind"
        assert not bench.network.connections(), "connections are left open"
        bench.clock.advance(60)
        assert len(bench.submitted) == before, "it sends after it was stopped"

    def _ask_many(self, bench: ServiceBench, tag: bytes, number: int) -> None:
        body = Envelope(data=self.request, tag=tag).encode()
        for _ in range(number):
            bench.deliver_message(body)

    def _still_answers(self, bench: ServiceBench) -> None:
        person = bench.asker()
        person.ask(self.request, 50)
        bench.clock.advance_until(lambda: len(person.answers) >= self.answers, self.limit)


class ProviderContract:
    """What every `IProvider` does with packets, those for nobody included.

    `implementation` is the name of its plugin, or an `IProviderFactory`; `argv` its options on the command line.
    """

    implementation: ClassVar[Any]
    argv: ClassVar[Sequence[str]] = ()

    def prepare(self, bench: ServiceBench) -> bytes:
        """Make ready, once it has started, for packets to the destination (32 bytes) that is returned."""
        return bench.service_host.address.mailbox

    @pytest.fixture
    def bench(self, seed: int) -> Any:
        with ServiceBench(self.implementation, self.argv, seed=seed) as bench:
            yield bench

    def test_it_is_a_provider(self, bench: ServiceBench) -> None:
        assert verifyObject(IProvider, bench.service_host.provider)

    def test_a_message_is_taken(self, bench: ServiceBench) -> None:
        bench.deliver(bench.random.randbytes(1580), MailKind.MESSAGE, self.prepare(bench))
        bench.clock.advance(60)
        assert bench.dropped == []
        assert len(bench.deliveries) == 0

    def test_what_is_for_nobody_is_refused_or_taken_but_never_an_error(self, bench: ServiceBench) -> None:
        self.prepare(bench)
        for kind, length in ((MailKind.MESSAGE, 1580), (MailKind.ACK, 21), (MailKind.REPLY, 2413)):
            bench.deliver(bench.random.randbytes(length), kind, bench.random.randbytes(32))
        bench.clock.advance(60)
        assert set(bench.dropped) <= _REFUSALS
        assert len(bench.deliveries) == 0

    def test_memory_is_bounded_under_ten_thousand_packets(self, bench: ServiceBench) -> None:
        destination = self.prepare(bench)
        self._deliver_many(bench, destination, _MANY // 2)
        gc.collect()
        tracemalloc.start()
        try:
            self._deliver_many(bench, destination, _MANY // 2)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < _GROWTH, f"{grown} bytes more after {_MANY // 2} packets more"
        assert set(bench.dropped) <= _REFUSALS

    def test_it_sends_nothing_unasked_and_opens_no_connection(self, bench: ServiceBench) -> None:
        bench.deliver(bench.random.randbytes(1580), MailKind.MESSAGE, self.prepare(bench))
        bench.clock.advance(60)
        assert bench.submitted == []
        assert not bench.network.connections()

    def test_it_stops_in_the_midst_of_packets_and_leaves_nothing(self, seed: int) -> None:
        bench = ServiceBench(self.implementation, self.argv, seed=seed)
        bench.start()
        destination = self.prepare(bench)
        for _ in range(20):
            bench.deliver(bench.random.randbytes(1580), MailKind.MESSAGE, destination)
        bench.stop()
        left = [call for call in bench.clock.getDelayedCalls() if getattr(call, "owner", None) is bench.host]
        assert not left, "timers are left behind"
        assert len(bench.deliveries) == 0

    @staticmethod
    def _deliver_many(bench: ServiceBench, destination: bytes, number: int) -> None:
        for _ in range(number):
            bench.deliver(bench.random.randbytes(1580), MailKind.MESSAGE, destination)
        bench.clock.advance(60)


def _service(bench: ServiceBench) -> Any:
    assert isinstance(bench.service_host.provider, ServiceProvider), "this suite is for an IService"
    return bench.service_host.provider.service
