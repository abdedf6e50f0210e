"""A suite for each interface that can be implemented in several ways: derive a test class and say what to test.

    class TestMyStore(MailboxStoreContract):
        def make_store(self, clock, limits):
            return MyStore(clock, limits)

The suites are collected by pytest; they need no reactor.
"""

import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest

from twisted.internet.defer import maybeDeferred
from zope.interface.verify import verifyObject

from nymtw.drop_reasons import DropReason
from nymtw.errors import MailboxFull, RegistrationRefused, TopologyIncomplete, UnknownDestination
from nymtw.interfaces import (
    IAllowance,
    ICoverPolicy,
    ICredentialVerifier,
    IDelayStrategy,
    IMailboxStore,
    IRouteStrategy,
)
from nymtw.mixing.loop_loss import ACTIONS, GO_ON, LoopLoss
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.testing.clock import FakeClock
from nymtw.testing.schedule_contract import LinkScheduleContract as LinkScheduleContract
from nymtw.topology.document import LAYERS, MIXNODE, NodeRecord, Topology

ALICE, BOB, KEY, TOKEN = b"a" * 32, b"b" * 32, b"k" * 32, b"t" * 32
# Within this time of a clock a store must have made durable what it was given.
DURABLE = 1.0
HANDSHAKE = 20.0  # seconds that a login may take
MANY = 100_000  # packets


def some_topology(mixnodes: Sequence[int] = (2, 3, 4)) -> Topology:
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
        self.wait(clock, store.close())

    def wait(self, clock: FakeClock, answer: Any) -> Any:
        """What a call of the store has led to: the value, Deferred or coroutine that it returned, waited for.

        A store that works in threads of its own overrides this with something that lets them have their turn.
        """
        return clock.wait_for(maybeDeferred(lambda: answer), DURABLE)

    def register(self, clock: FakeClock, store: Any, *mailboxes: bytes) -> None:
        for mailbox in mailboxes:
            self.wait(clock, store.register(mailbox, KEY, TOKEN))

    def find(self, clock: FakeClock, store: Any, mailbox: bytes) -> Any:
        return self.wait(clock, store.find(mailbox))

    def pull(self, clock: FakeClock, store: Any, mailbox: bytes, count: int, after: int) -> Any:
        return self.wait(clock, store.pull(mailbox, count, after))

    def contents(self, clock: FakeClock, store: Any, mailbox: bytes, count: int = 100, after: int = 0) -> list[bytes]:
        return [item.content for item in self.pull(clock, store, mailbox, count, after)]

    def test_interface(self, store: Any) -> None:
        assert verifyObject(IMailboxStore, store)

    def test_what_was_registered_is_found(self, clock: FakeClock, store: Any) -> None:
        assert self.find(clock, store, ALICE) is None
        self.register(clock, store, ALICE)
        record = self.find(clock, store, ALICE)
        assert (record.public_key, record.token_hash) == (KEY, TOKEN)
        assert self.find(clock, store, BOB) is None

    def test_registering_again_replaces_the_token_and_keeps_the_mail(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        self.wait(clock, store.store(ALICE, 1, b"kept"))
        self.wait(clock, store.register(ALICE, KEY, b"T" * 32))
        assert self.find(clock, store, ALICE).token_hash == b"T" * 32
        assert self.contents(clock, store, ALICE) == [b"kept"]

    def test_items_come_oldest_first_with_growing_numbers(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        for number in range(3):
            self.wait(clock, store.store(ALICE, number + 1, b"%d" % number))
        items = self.pull(clock, store, ALICE, 10, 0)
        assert [(item.kind, item.content) for item in items] == [(1, b"0"), (2, b"1"), (3, b"2")]
        numbers = [item.number for item in items]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0
        assert self.contents(clock, store, ALICE, count=2) == [b"0", b"1"]
        assert self.contents(clock, store, ALICE, after=numbers[0]) == [b"1", b"2"]

    def test_only_what_is_durable_is_handed_out(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        stored: list[Any] = []
        store.store(ALICE, 1, b"x").addCallback(stored.append)
        if not stored:
            assert self.contents(clock, store, ALICE) == []
        clock.advance(DURABLE)
        assert stored == [None]
        assert self.contents(clock, store, ALICE) == [b"x"]

    def test_a_pull_deletes_nothing(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        self.wait(clock, store.store(ALICE, 1, b"x"))
        assert self.contents(clock, store, ALICE) == self.contents(clock, store, ALICE) == [b"x"]

    def test_confirmed_items_are_gone_and_their_numbers_never_come_back(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        for content in (b"0", b"1"):
            self.wait(clock, store.store(ALICE, 1, content))
        first, last = [item.number for item in self.pull(clock, store, ALICE, 10, 0)]
        self.wait(clock, store.confirm(ALICE, [last]))
        self.wait(clock, store.confirm(ALICE, [last, 2**63, 0]))  # again, and what never was: nothing happens
        clock.advance(DURABLE)
        assert self.contents(clock, store, ALICE) == [b"0"]
        self.wait(clock, store.store(ALICE, 1, b"2"))
        assert self.pull(clock, store, ALICE, 10, first)[0].number > last

    def test_once_confirming_has_finished_nothing_of_it_comes_back(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        for content in (b"0", b"1"):
            self.wait(clock, store.store(ALICE, 1, content))
        first, last = [item.number for item in self.pull(clock, store, ALICE, 10, 0)]
        self.wait(clock, store.confirm(ALICE, [first]))
        assert self.contents(clock, store, ALICE) == [b"1"]
        self.wait(clock, store.confirm(ALICE, []))
        self.wait(clock, store.confirm(ALICE, [last, last]))
        assert self.contents(clock, store, ALICE) == []

    def test_subscribers_are_told_when_mail_is_durable(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        told: list[tuple[bytes, int]] = []
        asked: list[Any] = []

        def mail_came(mailbox: bytes) -> None:
            # What a subscriber asks for in the call itself has the new mail in it.
            asked.append(store.pull(mailbox, 10, 0))
            told.append((mailbox, len(asked)))

        store.subscribe(mail_came)
        self.wait(clock, store.store(ALICE, 1, b"0"))
        self.wait(clock, store.store(BOB, 2, b"1"))
        clock.advance(DURABLE)
        assert told == [(ALICE, 1), (BOB, 2)]
        found = [[item.content for item in self.wait(clock, answer)] for answer in asked]
        assert found == [[b"0"], [b"1"]]

    def test_nobody_is_told_of_what_was_refused_or_deleted(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE)
        self.wait(clock, store.store(ALICE, 1, bytes(100)))
        [item] = self.pull(clock, store, ALICE, 1, 0)
        told: list[bytes] = []
        store.subscribe(told.append)
        with pytest.raises(MailboxFull):
            self.wait(clock, store.store(ALICE, 1, b"x"))
        with pytest.raises(UnknownDestination):
            self.wait(clock, store.store(BOB, 1, b"x"))
        self.wait(clock, store.confirm(ALICE, [item.number]))
        self.register(clock, store, ALICE)
        clock.advance(DURABLE)
        assert told == []

    def test_mailboxes_are_apart(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        self.wait(clock, store.store(ALICE, 1, b"for alice"))
        [item] = self.pull(clock, store, ALICE, 10, 0)
        self.wait(clock, store.confirm(BOB, [item.number]))
        clock.advance(DURABLE)
        assert self.contents(clock, store, BOB) == []
        assert self.contents(clock, store, ALICE) == [b"for alice"]

    def test_an_unknown_mailbox(self, clock: FakeClock, store: Any) -> None:
        with pytest.raises(UnknownDestination):
            self.wait(clock, store.store(BOB, 1, b"x"))
        assert self.contents(clock, store, BOB) == []
        self.wait(clock, store.confirm(BOB, [1]))
        clock.advance(DURABLE)

    def test_a_full_mailbox_refuses_until_something_is_confirmed(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        for _ in range(3):
            self.wait(clock, store.store(ALICE, 1, b"x"))
        with pytest.raises(MailboxFull):
            self.wait(clock, store.store(ALICE, 1, b"x"))
        self.wait(clock, store.store(BOB, 1, b"x"))
        self.wait(clock, store.confirm(ALICE, [self.pull(clock, store, ALICE, 1, 0)[0].number]))
        clock.advance(DURABLE)
        self.wait(clock, store.store(ALICE, 1, b"x"))

    def test_a_mailbox_with_too_many_bytes_refuses_until_something_is_confirmed(self, clock: FakeClock) -> None:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, bytes_per_mailbox=50))
        self.register(clock, store, ALICE, BOB)
        self.wait(clock, store.store(ALICE, 1, bytes(30)))
        with pytest.raises(MailboxFull):
            self.wait(clock, store.store(ALICE, 1, bytes(21)))
        self.wait(clock, store.store(ALICE, 1, bytes(20)))
        self.wait(clock, store.store(BOB, 1, bytes(50)))
        self.wait(clock, store.confirm(ALICE, [self.pull(clock, store, ALICE, 1, 0)[0].number]))
        clock.advance(DURABLE)
        self.wait(clock, store.store(ALICE, 1, bytes(30)))
        self.wait(clock, store.close())

    def test_what_nobody_fetches_goes_when_it_is_too_old_and_makes_room(self, clock: FakeClock) -> None:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, items_per_mailbox=2, item_age=1000))
        self.register(clock, store, ALICE)
        self.wait(clock, store.store(ALICE, 1, b"old"))
        clock.advance(600)
        self.wait(clock, store.store(ALICE, 1, b"new"))
        assert self.contents(clock, store, ALICE) == [b"old", b"new"]
        clock.advance(700)
        assert self.contents(clock, store, ALICE) == [b"new"]
        self.wait(clock, store.store(ALICE, 1, b"newest"))
        clock.advance(1500)
        assert self.contents(clock, store, ALICE) == []
        self.wait(clock, store.close())
        clock.advance(1)
        assert clock.getDelayedCalls() == []

    def test_mailboxes_that_nobody_uses_expire_with_their_mail_and_make_room(self, clock: FakeClock) -> None:
        store = self.make_store(clock, MailboxLimits(mailboxes=2, unused_age=1000, abandoned_age=4000))
        assert (store.limits.unused_age, store.limits.abandoned_age) == (1000, 4000)
        self.register(clock, store, ALICE, BOB)
        store.touch(BOB)
        self.wait(clock, store.store(BOB, 1, b"mail"))
        clock.advance(1300)
        assert (store.count(), self.find(clock, store, ALICE)) == (1, None)
        clock.advance(2000)
        store.touch(BOB)
        clock.advance(3500)
        assert self.contents(clock, store, BOB) == [b"mail"]
        clock.advance(1000)
        assert (store.count(), self.contents(clock, store, BOB)) == (0, [])
        self.register(clock, store, ALICE, b"c" * 32)
        self.wait(clock, store.close())

    def test_a_full_store_refuses(self, clock: FakeClock, store: Any) -> None:
        self.register(clock, store, ALICE, BOB)
        self.wait(clock, store.store(ALICE, 1, bytes(60)))
        with pytest.raises(MailboxFull):
            self.wait(clock, store.store(BOB, 1, bytes(60)))
        self.wait(clock, store.store(BOB, 1, bytes(40)))
        with pytest.raises(MailboxFull):
            self.wait(clock, store.register(b"c" * 32, KEY, TOKEN))


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

    def test_interface(self) -> None:
        assert verifyObject(IRouteStrategy, self.make_strategy())

    def test_one_mixnode_of_each_layer_in_order(self) -> None:
        strategy, topology, source = self.make_strategy(), some_topology(), random.Random(1)
        for _ in range(100):
            route = strategy.draw(topology, source)
            assert [node.layer for node in route] == list(LAYERS)
            assert all(topology.find(node.identity) is node for node in route)

    def test_an_empty_layer_is_named(self) -> None:
        with pytest.raises(TopologyIncomplete, match="layer 2"):
            self.make_strategy().draw(some_topology((1, 0, 1)), random.Random(1))

    def test_a_seed_repeats_them(self) -> None:
        strategy, topology = self.make_strategy(), some_topology()
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


class CredentialVerifierContract:
    """What every `ICredentialVerifier` does. `credential`: one that is accepted."""

    credential = b""

    def make_verifier(self, clock: FakeClock) -> Any:
        raise NotImplementedError

    def verify(self, clock: FakeClock, verifier: Any, mailbox: bytes = ALICE, credential: bytes | None = None) -> Any:
        """The allowance, waited for."""
        shown = self.credential if credential is None else credential
        return clock.wait_for(maybeDeferred(verifier.verify, mailbox, shown), HANDSHAKE)

    def test_interfaces(self) -> None:
        clock = FakeClock()
        verifier = self.make_verifier(clock)
        assert verifyObject(ICredentialVerifier, verifier)
        assert verifyObject(IAllowance, self.verify(clock, verifier))

    def test_an_allowance_lets_go_or_says_why_not(self) -> None:
        clock = FakeClock()
        verifier = self.make_verifier(clock)
        verifier.use_topology(some_topology())
        allowance = self.verify(clock, verifier)
        assert allowance.take() is None
        answers = {allowance.take() for _ in range(MANY)}
        assert all(answer is None or isinstance(answer, DropReason) for answer in answers)

    def test_repeated_logins_give_no_more(self) -> None:
        clock = FakeClock()
        verifier = self.make_verifier(clock)
        allowance = self.verify(clock, verifier)
        for _ in range(MANY):
            if allowance.take() is not None:
                break
        else:
            pytest.skip("it lets clients send as much as they like")
        assert self.verify(clock, verifier).take() is not None
        self.verify(clock, verifier, BOB).take()
        assert self.verify(clock, verifier).take() is not None

    def test_no_credential_does_harm(self) -> None:
        clock, source = FakeClock(), random.Random(1)
        verifier = self.make_verifier(clock)
        for length in (0, 1, 32, 100, 1024):
            with contextlib.suppress(RegistrationRefused):
                assert verifyObject(IAllowance, self.verify(clock, verifier, BOB, source.randbytes(length)))
