"""An observer sees every frame on every link, and the truth beside it is the truth."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nymtw.sphinx import SizeClass
from nymtw.testing.observer import Observer, direction_of
from nymtw.testing.rows import Direction, Kind, Rows
from nymtw.testing.simulation import SimulatedNetwork

SEED = 3


def observed(**network: Any) -> tuple[Rows, SimulatedNetwork]:
    observer = Observer()
    with SimulatedNetwork(SEED, observer=observer, **network) as simulated:
        # Links are made on demand: the first packets wait for them.
        observer.pause()
        simulated.run(3)
        observer.resume()
        simulated.deliver("alice", "bob", b"hello" * 1000)
        simulated.run(1)
    return observer.rows, simulated


@pytest.fixture(scope="module", params=["none", "sphinx"])
def rows(request: pytest.FixtureRequest) -> Rows:
    return observed(crypto=request.param)[0]


def walk(rows: Rows, packet: int) -> list[tuple[int, int, str, str]]:
    """What was seen of a packet: direction, hop, from, to."""
    return [
        (rows.direction[row], rows.hop[row], rows.names[rows.source[row]], rows.names[rows.target[row]])
        for row in range(len(rows))
        if rows.packet[row] == packet
    ]


def packets_of(rows: Rows, kind: Kind) -> list[int]:
    return sorted({number for number, one in zip(rows.packet, rows.kind, strict=True) if one == kind})


def test_a_packet_is_followed_from_the_client_to_the_mailbox(rows: Rows) -> None:
    first = packets_of(rows, Kind.REAL)[0]
    seen = walk(rows, first)
    assert [direction for direction, *_ in seen] == [
        Direction.UP,
        Direction.IN,
        Direction.ACROSS,
        Direction.ACROSS,
        Direction.OUT,
        Direction.KEPT,
    ]
    assert [hop for _, hop, *_ in seen] == list(range(6))
    assert seen[0][2:] == ("alice", "provider-1")
    assert seen[-1][2:] == ("provider-2", "bob")
    for (*_, reached), (_, _, left, _) in pairwise(seen):
        assert reached == left


def test_acks_and_cover_are_told_apart(rows: Rows) -> None:
    assert len(packets_of(rows, Kind.REAL)) == 4
    kinds = Counter(rows.kind)
    assert kinds[Kind.ACK] > 0
    assert kinds[Kind.LOOP] + kinds[Kind.DROP] > 0
    for number in packets_of(rows, Kind.ACK)[:20]:
        seen = walk(rows, number)
        assert Direction.UP not in {direction for direction, *_ in seen}
        # Those of the first ones were under way when the watch began.
        assert [hop for _, hop, *_ in seen] == list(range(seen[0][1], seen[0][1] + len(seen)))


def test_the_delay_beside_a_row_is_the_one_that_was_drawn(rows: Rows) -> None:
    times: dict[int, float] = {}
    checked = 0
    for row in range(len(rows)):
        number, direction = rows.packet[row], rows.direction[row]
        if number < 0 or direction == Direction.KEPT:
            continue
        if direction in (Direction.ACROSS, Direction.OUT) and number in times:
            # A link takes a millisecond; nothing else holds a packet up where lines are not padded.
            assert rows.time[row] - times[number] == pytest.approx(rows.delay[row] + 0.001, abs=0.002)
            checked += 1
        times[number] = rows.time[row]
    assert checked > 50


def test_the_table_shows_what_sphinx_shows() -> None:
    shares = []
    for crypto in ("none", "sphinx"):
        rows, _ = observed(crypto=crypto)
        total = len(rows)
        counted = Counter(zip(rows.direction, rows.size_class, strict=True))
        shares.append({key: number / total for key, number in counted.items()})
    assert shares[0].keys() == shares[1].keys()
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_mailboxes_of_gateways_are_seen_too() -> None:
    rows, _ = observed(crypto="none", gateways=1, at={"bob": "gateway-1"})
    assert ("gateway-1", "bob") in {seen[2:] for number in packets_of(rows, Kind.REAL) for seen in walk(rows, number)}


def test_replies_are_packets_too() -> None:
    observer = Observer()
    with SimulatedNetwork(SEED, crypto="none", observer=observer) as network:
        alice, bob = network.clients["alice"], network.clients["bob"]
        tags: list[Any] = []
        bob.core.inbox.pump(bob.core.inbox.subscribe(lambda message: tags.append(message.tag)))
        alice.send(bob, b"question", surbs=10)
        network.run_until(lambda: bool(tags), 30)
        network.clock.wait_for(_deferred(bob.core.reply(tags[0], b"answer")), 10)
        network.run_until(lambda: b"answer" in alice.received, 60)
    rows = observer.rows
    replies = packets_of(rows, Kind.REPLY)
    assert replies
    assert walk(rows, replies[0])[-1][2:] == ("provider-1", "alice")


def _deferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


def test_a_paused_observer_writes_nothing() -> None:
    observer = Observer()
    with SimulatedNetwork(SEED, crypto="none", observer=observer) as network:
        observer.pause()
        before = len(observer.rows)
        network.run(0.5)
        assert len(observer.rows) == before
        observer.resume()
        network.run(0.5)
        assert len(observer.rows) > before


@pytest.mark.parametrize("truth", [True, False])
def test_rows_are_the_same_in_a_file(rows: Rows, truth: bool, tmp_path: Path) -> None:
    rows.write_csv(tmp_path / "rows.csv", truth)
    read = Rows.read_csv(tmp_path / "rows.csv")
    assert list(read.time) == list(rows.time)
    assert [read.names[number] for number in read.source] == [rows.names[number] for number in rows.source]
    assert (list(read.kind) == list(rows.kind)) is truth


def test_rows_are_the_same_in_parquet(rows: Rows, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows.write_parquet(tmp_path / "rows.parquet", truth=False)
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names == ["time", "source", "target", "size_class", "direction"]
    assert table["time"].to_pylist() == list(rows.time)
    assert table["target"].to_pylist() == [rows.names[number] for number in rows.target]


def test_links_to_the_directory_are_none_of_packets() -> None:
    assert direction_of("alice", "directory") is None
    assert direction_of("mixnode-1-1", "mixnode-2-1") is Direction.ACROSS
    assert direction_of("gateway-1", "alice") is Direction.DOWN


def test_an_ack_has_a_size_of_its_own(rows: Rows) -> None:
    sizes = {size for size, kind in zip(rows.size_class, rows.kind, strict=True) if kind == Kind.ACK}
    assert sizes == {SizeClass.ACK}
