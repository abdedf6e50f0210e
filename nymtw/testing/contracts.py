"""A suite for each interface that can be implemented in several ways: derive a test class and say what to test.

    class TestMyStore(MailboxStoreContract):
        def make_store(self, clock, limits):
            return MyStore(clock, limits)

The suites are collected by pytest; they need no reactor.
"""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from zope.interface.verify import verifyObject

from nymtw.errors import MailboxFull, TopologyIncomplete, UnknownDestination
from nymtw.interfaces import ICoverPolicy, IDelayStrategy, IMailboxStore, IRouteStrategy
from nymtw.mixnode.loss import ACTIONS, GO_ON, LoopLoss
from nymtw.storage.mailboxes import MailboxLimits
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import LAYERS, MIXNODE, NodeRecord, Topology

ALICE, BOB, KEY, TOKEN = b"a" * 32, b"b" * 32, b"k" * 32, b"t" * 32
# Within this time of a clock a store must have made durable what it was given.
DURABLE = 1.0


class MailboxStoreContract:
    """What every `IMailboxStore` does."""

    def make_store(self, clock: FakeClock, limits: MailboxLimits) -> Any:
        """A new, empty store that keeps to `limits`, with `clock.wall_clock` as its wall clock."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, clock: FakeClock) -> Any:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, items_per_mailbox=3, total_bytes=100))
        yield store
        store.close()

    def register(self, clock: FakeClock, store: Any, *mailboxes: bytes) -> None:
        for mailbox in mailboxes:
            clock.wait_for(store.register(mailbox, KEY, TOKEN), DURABLE)

    def contents(self, store: Any, mailbox: bytes, count: int = 100, after: int = 0) -> list[bytes]:
        return [item.content for item in store.pull(mailbox, count, after)]

    def test_interface(self, store: Any) -> None:
        assert verifyObject(IMailboxStore, store)

    def test_what_was_registered_is_found(self, clock: FakeClock, store: Any) -> None:
        assert store.find(ALICE) is None
        self.register(clock, store, ALICE)
        record = store.find(ALICE)
        assert (record.public_key, record.token_hash) == (KEY, TOKEN)
        assert store.find(BOB) is None

    def test_registering_again_replaces_the_token_and_keeps_the_mail(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        clock.wait_for(store.store(ALICE, 1, b"kept"), DURABLE)
        clock.wait_for(store.register(ALICE, KEY, b"T" * 32), DURABLE)
        assert store.find(ALICE).token_hash == b"T" * 32
        assert self.contents(store, ALICE) == [b"kept"]

    def test_items_come_oldest_first_with_growing_numbers(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        for number in range(3):
            clock.wait_for(store.store(ALICE, number + 1, b"%d" % number), DURABLE)
        items = store.pull(ALICE, 10, 0)
        assert [(item.kind, item.content) for item in items] == [(1, b"0"), (2, b"1"), (3, b"2")]
        numbers = [item.number for item in items]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0
        assert self.contents(store, ALICE, count=2) == [b"0", b"1"]
        assert self.contents(store, ALICE, after=numbers[0]) == [b"1", b"2"]

    def test_only_what_is_durable_is_handed_out(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        stored: list[Any] = []
        store.store(ALICE, 1, b"x").addCallback(stored.append)
        if not stored:
            assert self.contents(store, ALICE) == []
        clock.advance(DURABLE)
        assert stored == [None]
        assert self.contents(store, ALICE) == [b"x"]

    def test_a_pull_deletes_nothing(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        clock.wait_for(store.store(ALICE, 1, b"x"), DURABLE)
        assert self.contents(store, ALICE) == self.contents(store, ALICE) == [b"x"]

    def test_confirmed_items_are_gone_and_their_numbers_never_come_back(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        for content in (b"0", b"1"):
            clock.wait_for(store.store(ALICE, 1, content), DURABLE)
        first, last = [item.number for item in store.pull(ALICE, 10, 0)]
        store.confirm(ALICE, [last])
        store.confirm(ALICE, [last, 2**63, 0])  # again, and what never was: nothing happens
        clock.advance(DURABLE)
        assert self.contents(store, ALICE) == [b"0"]
        clock.wait_for(store.store(ALICE, 1, b"2"), DURABLE)
        assert store.pull(ALICE, 10, first)[0].number > last

    def test_mailboxes_are_apart(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        clock.wait_for(store.store(ALICE, 1, b"for alice"), DURABLE)
        [item] = store.pull(ALICE, 10, 0)
        store.confirm(BOB, [item.number])
        clock.advance(DURABLE)
        assert self.contents(store, BOB) == []
        assert self.contents(store, ALICE) == [b"for alice"]

    def test_an_unknown_mailbox(self, clock: FakeClock, store: Any) -> None:
        with pytest.raises(UnknownDestination):
            clock.wait_for(store.store(BOB, 1, b"x"), DURABLE)
        assert self.contents(store, BOB) == []
        store.confirm(BOB, [1])
        clock.advance(DURABLE)

    def test_a_full_mailbox_refuses_until_something_is_confirmed(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        for _ in range(3):
            clock.wait_for(store.store(ALICE, 1, b"x"), DURABLE)
        with pytest.raises(MailboxFull):
            clock.wait_for(store.store(ALICE, 1, b"x"), DURABLE)
        clock.wait_for(store.store(BOB, 1, b"x"), DURABLE)
        store.confirm(ALICE, [store.pull(ALICE, 1, 0)[0].number])
        clock.advance(DURABLE)
        clock.wait_for(store.store(ALICE, 1, b"x"), DURABLE)

    def test_a_mailbox_with_too_many_bytes_refuses_until_something_is_confirmed(self, clock: FakeClock) -> None:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, bytes_per_mailbox=50))
        self.register(clock, store, ALICE, BOB)
        clock.wait_for(store.store(ALICE, 1, bytes(30)), DURABLE)
        with pytest.raises(MailboxFull):
            clock.wait_for(store.store(ALICE, 1, bytes(21)), DURABLE)
        clock.wait_for(store.store(ALICE, 1, bytes(20)), DURABLE)
        clock.wait_for(store.store(BOB, 1, bytes(50)), DURABLE)
        store.confirm(ALICE, [store.pull(ALICE, 1, 0)[0].number])
        clock.advance(DURABLE)
        clock.wait_for(store.store(ALICE, 1, bytes(30)), DURABLE)
        store.close()

    def test_what_nobody_fetches_goes_when_it_is_too_old_and_makes_room(self, clock: FakeClock) -> None:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, items_per_mailbox=2, item_age=1000))
        self.register(clock, store, ALICE)
        clock.wait_for(store.store(ALICE, 1, b"old"), DURABLE)
        clock.advance(600)
        clock.wait_for(store.store(ALICE, 1, b"new"), DURABLE)
        assert self.contents(store, ALICE) == [b"old", b"new"]
        clock.advance(700)
        assert self.contents(store, ALICE) == [b"new"]
        clock.wait_for(store.store(ALICE, 1, b"newest"), DURABLE)
        clock.advance(1500)
        assert self.contents(store, ALICE) == []
        store.close()
        clock.advance(1)
        assert clock.getDelayedCalls() == []

    def test_a_full_store_refuses(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        clock.wait_for(store.store(ALICE, 1, bytes(60)), DURABLE)
        with pytest.raises(MailboxFull):
            clock.wait_for(store.store(BOB, 1, bytes(60)), DURABLE)
        clock.wait_for(store.store(BOB, 1, bytes(40)), DURABLE)
        with pytest.raises(MailboxFull):
            clock.wait_for(store.register(b"c" * 32, KEY, TOKEN), DURABLE)


class DelayStrategyContract:
    """What every `IDelayStrategy` does."""

    def make_strategy(self) -> Any:
        raise NotImplementedError

    def test_interface(self) -> None:
        assert verifyObject(IDelayStrategy, self.make_strategy())

    @pytest.mark.parametrize("hops", [0, 1, 3, 4])
    def test_one_delay_a_hop_that_fits_its_field(self, hops: int) -> None:
        strategy, source = self.make_strategy(), random.Random(hops)
        for _ in range(1000):
            delays = strategy.draw(hops, source)
            assert len(delays) == hops
            assert all(isinstance(delay, int) and 0 <= delay < 2**64 for delay in delays)

    def test_a_seed_repeats_them(self) -> None:
        strategy = self.make_strategy()
        assert list(strategy.draw(3, random.Random(7))) == list(strategy.draw(3, random.Random(7)))


class RouteStrategyContract:
    """What every `IRouteStrategy` does."""

    def make_strategy(self) -> Any:
        raise NotImplementedError

    def make_topology(self, mixnodes: Sequence[int] = (2, 3, 4)) -> Topology:
        """With so many mixnodes in each of the three layers."""
        nodes = [
            NodeRecord(
                role=MIXNODE,
                identity=bytes([layer, number]) * 16,
                host="127.0.0.1",
                port=1789,
                layer=layer,
                sphinx_keys={5: bytes([layer]) * 32},
            )
            for layer, count in zip(LAYERS, mixnodes, strict=True)
            for number in range(count)
        ]
        return Topology(
            serial=1,
            network=bytes(16),
            published=0,
            valid_until=1,
            refresh=60.0,
            epoch=5,
            epoch_seconds=86400,
            nodes=tuple(nodes),
        )

    def test_interface(self) -> None:
        assert verifyObject(IRouteStrategy, self.make_strategy())

    def test_one_mixnode_of_each_layer_in_order(self) -> None:
        strategy, topology, source = self.make_strategy(), self.make_topology(), random.Random(1)
        for _ in range(100):
            route = strategy.draw(topology, source)
            assert [node.layer for node in route] == list(LAYERS)
            assert all(topology.find(node.identity) is node for node in route)

    def test_an_empty_layer_is_named(self) -> None:
        with pytest.raises(TopologyIncomplete, match="layer 2"):
            self.make_strategy().draw(self.make_topology((1, 0, 1)), random.Random(1))

    def test_a_seed_repeats_them(self) -> None:
        strategy, topology = self.make_strategy(), self.make_topology()
        assert strategy.draw(topology, random.Random(7)) == strategy.draw(topology, random.Random(7))


class CoverPolicyContract:
    """What every `ICoverPolicy` does."""

    def make_policy(self) -> Any:
        raise NotImplementedError

    def test_interface(self) -> None:
        assert verifyObject(ICoverPolicy, self.make_policy())

    @pytest.mark.parametrize("sent", [0, 1, 10, 600, 100_000])
    def test_every_loss_is_answered_with_an_action(self, sent: int) -> None:
        policy = self.make_policy()
        for lost in {0, sent // 100, sent // 2, sent}:
            assert policy.decide(LoopLoss(sent, sent - lost, 600.0)) in ACTIONS

    def test_no_loss_is_no_reason_to_act(self) -> None:
        policy = self.make_policy()
        assert [policy.decide(LoopLoss(sent, sent, 600.0)) for sent in (0, 1, 600)] == [GO_ON] * 3
