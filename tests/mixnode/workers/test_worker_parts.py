"""The parts of a mixnode with workers: its pipe's frames, its counts, who gets which link, and its port."""

import os
import resource
import socket
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from mixnode_with_workers import WorkerParts

from nymtw.drop_reasons import DropReason
from nymtw.errors import EncodingError, ListenError
from nymtw.link.padding import PaddingCounts
from nymtw.mixnode import options as mixnode
from nymtw.mixnode.workers.counts import LENGTH, CountTransfer, WorkerCounts, shared_file, shared_memory
from nymtw.mixnode.workers.pool import assign
from nymtw.mixnode.workers.spawn import Acceptor
from nymtw.mixnode.workers.wire import (
    CHECK,
    FRAME_LIMIT,
    HOLD,
    ChannelParser,
    CloseLink,
    Drain,
    Keys,
    Kind,
    Linked,
    Neighbours,
    check_records,
    control_frame,
    frame,
    hold_record,
    read_control,
    records,
    verdict,
    verdict_byte,
)
from nymtw.node.engine.packet_counters import PacketCounters
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.pythons

# the pipe


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    sent = [(Kind.CHECK, b""), (Kind.HOLD, hold_record(7, 2**63, b"h" * 32, b"packet")), (Kind.VERDICTS, b"\0\1")]
    stream = b"".join(frame(kind, body) for kind, body in sent)
    for size in range(1, len(stream) + 1):
        parser = ChannelParser()
        parts = [parser.feed(stream[start : start + size]) for start in range(0, len(stream), size)]
        assert [each for part in parts for each in part] == sent


@pytest.mark.parametrize("head", [bytes([len(Kind)]) + bytes(4), b"\0" + (FRAME_LIMIT + 1).to_bytes(4, "big")])
def test_what_is_no_frame_is_refused_at_its_head(head: bytes) -> None:
    with pytest.raises(EncodingError):
        ChannelParser().feed(head)


def test_records_are_read_whole_or_not_at_all() -> None:
    body = hold_record(1, 2, b"a" * 32, b"one") + hold_record(3, 4, b"b" * 32, b"")
    assert list(records(HOLD, body)) == [(1, 2, b"a" * 32, b"one"), (3, 4, b"b" * 32, b"")]
    checks = CHECK.pack(2**32 + 7, b"t" * 16, b"p" * 32)
    assert list(check_records(checks)) == [(2**32 + 7, b"t" * 16, b"p" * 32)]
    for cut in range(1, len(body)):
        if cut != HOLD.size + 3:
            with pytest.raises(EncodingError):
                list(records(HOLD, body[:cut]))
    with pytest.raises(EncodingError):
        check_records(checks[:-1])


def test_every_verdict_has_a_byte() -> None:
    for reason in (None, *DropReason):
        assert verdict(verdict_byte(reason)) is reason
    assert verdict_byte(None) == 0
    with pytest.raises(EncodingError):
        verdict(255)


def test_control_messages_come_out_as_they_went_in() -> None:
    for message in (
        Keys({7: b"k" * 32, 2**32 + 7: b"l" * 32}),
        Neighbours({b"n" * 32: ("10.0.0.1", 1789)}, [b"e" * 32], [b"a" * 32]),
        Neighbours({}, [], [b"a" * 32], {}, {7: ([b"n" * 32], [b"a" * 32])}),
        Linked(b"p" * 32, 3),
        CloseLink(b"p" * 32, 3),
        Drain(),
    ):
        [(kind, body)] = ChannelParser().feed(control_frame(message))
        assert kind is Kind.CONTROL
        assert read_control(body) == message
    with pytest.raises(EncodingError):
        read_control(b"\xa1dtypegunknown")


def test_a_worker_that_says_nonsense_is_killed() -> None:
    crew = WorkerParts(31)
    broken = crew.process(1)
    broken.worker.transport.write(frame(Kind.PASS, b"half a record"))
    crew.run(1.0)
    assert crew.process(1) is not broken


# the counts


def test_counts_are_shared_and_taken_over_once() -> None:
    descriptor = shared_file()
    worker, node = WorkerCounts(shared_memory(descriptor)), WorkerCounts(shared_memory(descriptor))
    transfer, counters = CountTransfer(node), PacketCounters()
    for _ in range(2):
        worker.received(5)
        worker.forwarded(2)
        worker.dropped(DropReason.REPLAYED, 1)
        transfer.add_departures(counters)
        transfer.add_arrivals(counters)
    transfer.add_departures(counters)
    transfer.add_arrivals(counters)
    snapshot = counters.snapshot()
    assert (snapshot.received, snapshot.forwarded, snapshot.queued) == (10, 4, 4)
    assert snapshot.dropped == {DropReason.REPLAYED: 2}
    worker.beat(3, (1, 2), PaddingCounts(7, 8, 9))
    worker.connection_ended()
    assert (node.beats, node.pending, node.links, node.connections_ended) == (1, 3, (1, 2), 1)
    assert node.padding == PaddingCounts(7, 8, 9)


def test_the_counts_of_all_reasons_have_room() -> None:
    counts = WorkerCounts(bytearray(LENGTH))
    for number, reason in enumerate(DropReason, 1):
        counts.dropped(reason, number)
    assert counts.dropped_by_reason == Counter({reason: number for number, reason in enumerate(DropReason, 1)})
    assert (counts.received_total, counts.forwarded_total) == (0, 0)


# the links


def test_links_are_shared_evenly_and_few_move() -> None:
    random = Random(32)
    before: dict[bytes, int] = {}
    for _ in range(300):
        hops = [bytes([number]) * 32 for number in random.sample(range(60), random.randrange(40))]
        handles = random.sample(range(1, 9), random.randrange(9))
        owners = assign(hops, handles, before)
        if not handles:
            assert owners == {}
            continue
        assert owners.keys() == set(hops)
        held = Counter(owners.values())
        assert all(len(hops) // len(handles) <= held[handle] <= -(-len(hops) // len(handles)) for handle in handles)
        # Only those move that have to: because their worker is gone, or has more than its part.
        stayed = sum(before.get(hop) == handle for hop, handle in owners.items())
        could = Counter(before[hop] for hop in hops if before.get(hop) in handles)
        fewest, more = divmod(len(hops), len(handles))
        most = sorted((min(count, fewest + 1) for count in could.values()), reverse=True)
        assert stayed == sum(min(count, fewest + (place < more)) for place, count in enumerate(most))
        before = owners
    assert assign([b"a"], [1], {}) == {b"a": 1}


# the port


class AcceptingWorkers:
    """Takes every connection, or none."""

    def __init__(self, takes: bool) -> None:
        self.takes = takes
        self.peers: list[Any] = []

    def hand_over(self, connection: socket.socket) -> bool:
        if self.takes:
            self.peers.append(connection.getpeername())
        return self.takes


class Reactor(FakeClock):
    """Remembers who wants to read."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


def test_a_connection_goes_to_the_first_that_takes_it_and_is_closed_where_none_does() -> None:
    reactor = Reactor()
    full, free = AcceptingWorkers(False), AcceptingWorkers(True)
    handles: list[Any] = [full, free]
    acceptor = Acceptor(reactor, "127.0.0.1", 0, lambda: handles)
    acceptor.privilegedStartService()
    acceptor.startService()
    assert reactor.readers == [acceptor]
    with socket.create_connection(("127.0.0.1", acceptor.port)) as client:
        acceptor.doRead()
        assert free.peers == [client.getsockname()]
    free.takes = False
    with socket.create_connection(("127.0.0.1", acceptor.port)) as client:
        client.settimeout(10)
        acceptor.doRead()
        assert client.recv(1) == b""
    acceptor.stopService()
    assert reactor.readers == []


def test_a_taken_port_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            Acceptor(Reactor(), "127.0.0.1", port, list).privilegedStartService()
    with pytest.raises(ListenError, match=r"cannot listen on \[2001:db8::1\]:1789: "):
        Acceptor(Reactor(), "2001:db8::1", 1789, list).privilegedStartService()


def test_without_descriptors_it_waits_a_moment() -> None:
    reactor = Reactor()
    acceptor = Acceptor(reactor, "127.0.0.1", 0, list)
    acceptor.startService()
    with socket.create_connection(("127.0.0.1", acceptor.port)):
        usual = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(acceptor.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))  # no descriptor is left
        try:
            acceptor.doRead()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        assert reactor.readers == []
        reactor.advance(1.0)
        assert reactor.readers == [acceptor]
    acceptor.stopService()


# the option


def test_the_number_of_workers_is_an_option_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYMTW_HOME", str(tmp_path))

    def workers_of(*argv: str) -> int:
        options = mixnode.Options()
        options.parseOptions(["--id=m", *argv])
        return mixnode.configure(options)[1].node.workers

    assert workers_of("--directory-key", "A" * 43 + "=", "--workers=3") == 3
    assert workers_of() == 3
    for wrong in ("0", "65", "-1", "x"):
        with pytest.raises(Exception, match="1 to 64"):
            workers_of(f"--workers={wrong}")
