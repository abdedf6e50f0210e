"""Circuits between two whole clients on a fake clock: tags of their own, blocks in memory, and nothing in the store."""

from collections.abc import Iterator
from typing import Any

import pytest
from client_and_edge import Net, Person, run_until

from nymtw.client.config import DebugSection
from nymtw.client.receiving.circuits import ENOUGH, FEW, Circuit
from nymtw.client.sending.messages import State
from nymtw.client.sending.packet_sender import pack_address
from nymtw.errors import NymtwError, TopologyIncomplete
from nymtw.message.replies import OUTSTANDING

pytestmark = pytest.mark.long

FAST = DebugSection(
    message_sending_rate=50.0, fetch_message_rate=20.0, loop_cover_traffic_rate=0.1, drop_cover_traffic_rate=-1.0
)
ANSWER = bytes(range(256)) * 400


class World:
    """alice asks over circuits, bob answers under the tag that he sees."""

    def __init__(self, seed: int) -> None:
        self.net = Net(seed)
        self.alice = Person(self.net, "alice", debug=FAST)
        self.bob = Person(self.net, "bob", debug=FAST)
        self.bob.listen()
        self.got: list[tuple[bytes, bytes]] = []

    def open(self) -> Circuit:
        circuit = self.alice.core.circuits.open(
            pack_address(self.bob.core.address), lambda data: self.got.append((circuit.tag, data))
        )
        return circuit

    def until(self, condition: Any, limit: float = 300.0) -> None:
        run_until(self.net, condition, limit)

    def answer(self, tag: bytes | None, data: bytes) -> None:
        assert tag is not None
        self.bob.wait(self.bob.core.reply(tag, data))

    def stop(self) -> None:
        self.alice.stop()
        self.bob.stop()
        self.net.clock.advance(30)  # packets that were under way
        assert self.net.clock.getDelayedCalls() == []

    def stored(self) -> int:
        tables = ("outbox", "outbox_data", "surb_records", "correspondents", "fragments", "inbox", "delivered")
        return sum(self.alice.database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)


@pytest.fixture
def world(seed: int) -> Iterator[World]:
    world = World(seed)
    yield world
    world.stop()


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_there_and_back_under_a_tag_of_its_own(world: World, loss: float) -> None:
    one, other = world.open(), world.open()
    ends: list[State] = []
    one.post(b"from one", one, blocks=2, ended=ends.append)
    other.post(b"from the other", other, blocks=2)
    world.until(lambda: len(world.bob.received) == 2)
    tags = {received.data: received.tag for received in world.bob.received}
    assert tags == {b"from one": one.tag, b"from the other": other.tag}
    world.net.loss = loss / 8
    world.answer(one.tag, ANSWER)
    world.answer(other.tag, b"short")
    world.until(lambda: len(world.got) == 2 and ends)
    assert sorted(world.got) == sorted([(one.tag, ANSWER), (other.tag, b"short")])
    assert ends == [State.DONE]
    world.until(lambda: not len(world.bob.core.outbox))
    assert world.stored() == 0


def test_what_is_posted_costs_no_packet_more_for_its_blocks(world: World) -> None:
    circuit = world.open()
    message = circuit.post(bytes(200), circuit, blocks=2)
    assert len(message.fragments) == 1
    assert len(circuit.records) == 3, "two that were asked for, one for which there was room"
    world.until(lambda: len(world.bob.core.replies) >= ENOUGH)
    assert len(circuit.records) == ENOUGH
    for _ in range(10):
        circuit.post(bytes(200), circuit)
    world.net.clock.advance(5)
    assert len(circuit.records) == ENOUGH, "who has enough is given no more"
    for _ in range(ENOUGH - FEW + 1):
        world.answer(circuit.tag, b"x")
    world.until(lambda: len(world.got) == ENOUGH - FEW + 1)
    assert len(circuit.records) <= FEW
    circuit.post(b"more", circuit)
    world.until(lambda: len(world.bob.core.replies) >= ENOUGH)


def test_a_service_cannot_make_it_give_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = world.open()
    monkeypatch.setattr("nymtw.client.receiving.circuits.RECORDS", 100)
    for _ in range(100):
        world.alice.core.circuits.give(circuit, 65535)
    made = []
    make = world.alice.core.circuits.make_block
    world.alice.core.circuits.make_block = lambda: made.append(make()) or made[-1]  # type: ignore[func-returns-value]
    world.net.clock.advance(3)
    assert len(made) == OUTSTANDING
    assert len(circuit.records) == 100


def test_signs_of_life(world: World) -> None:
    circuit = world.open()
    signs: list[float] = []
    circuit.signs = lambda: signs.append(world.net.clock.seconds())
    circuit.post(b"?", circuit, blocks=2)
    world.until(lambda: bool(signs))
    assert not world.got
    before = len(signs)
    world.answer(circuit.tag, b"!")
    world.until(lambda: bool(world.got))
    assert len(signs) > before


def test_a_closed_circuit_takes_and_sends_nothing(world: World) -> None:
    circuit = world.open()
    circuit.post(b"?", circuit, blocks=2)
    world.until(lambda: bool(world.bob.received))
    ends: list[State] = []
    circuit.post(b"cancelled", circuit, ended=ends.append)
    circuit.close()
    circuit.close()
    world.answer(circuit.tag, b"too late")
    world.net.clock.advance(5)
    assert (world.got, ends, len(world.alice.core.circuits)) == ([], [], 0)
    assert [received.data for received in world.bob.received] == [b"?"]
    assert (len(world.alice.core.outbox), world.stored()) == (0, 0)


def test_one_that_is_closed_by_what_it_hears(world: World) -> None:
    circuit = world.open()
    circuit.post(b"?", circuit, blocks=2)
    world.until(lambda: bool(world.bob.received))
    world.net.clock.advance(5)
    circuit.signs = circuit.close
    world.answer(circuit.tag, b"!")
    world.net.clock.advance(5)
    assert (world.got, len(world.alice.core.circuits)) == ([], 0)


def test_a_message_goes_without_blocks_where_none_can_be_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = world.open()

    def none() -> Any:
        raise TopologyIncomplete

    monkeypatch.setattr(world.alice.core.circuits, "make_block", none)
    with pytest.raises(NymtwError):
        circuit.post(b"with", circuit, blocks=1)
    circuit.post(b"without", circuit)
    world.until(lambda: bool(world.bob.received))
    assert [(received.data, received.tag) for received in world.bob.received] == [(b"without", circuit.tag)]


def test_nonsense_that_comes_back_is_counted(world: World) -> None:
    circuit = world.open()
    circuit.post(b"?", circuit, blocks=2)
    world.until(lambda: bool(world.bob.received))
    [record] = list(circuit.records)[:1]
    assert world.alice.core.circuits.packet(record + bytes(2381))
    assert world.alice.core.circuits.malformed == 1
    assert not world.alice.core.circuits.packet(record + bytes(2381)), "each is opened once"
    assert not world.alice.core.circuits.packet(bytes(2413))


def test_blocks_of_dead_keys_are_forgotten(world: World) -> None:
    circuit = world.open()
    circuit.post(b"?", circuit, blocks=2)
    world.net.clock.advance(5)
    assert len(circuit.records) == ENOUGH
    world.alice.core.circuits.use_epoch(8)
    assert len(circuit.records) == ENOUGH
    world.alice.core.circuits.use_epoch(9)
    assert circuit.records == {}


def test_blocks_are_given_beside_any_number_of_uploads(world: World) -> None:
    circuit = world.open()
    uploads = [circuit.post(bytes(20_000), number) for number in range(20)]
    packets = sum(len(message.fragments) for message in uploads)
    world.until(lambda: len(world.bob.core.replies) >= FEW)
    assert world.alice.core.outbox.queued > packets // 2
