"""Messages out of fragments: lost, repeated, reordered, and sent by somebody who means harm."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.message.fragments import FRAGMENT_CAPACITY, Fragment, FragmentKind, fragment
from nymtw.message.reassembly import Arrival, Ledger, Reassembler, ReassemblyLimits, message_id_of

SIX = 6 * FRAGMENT_CAPACITY


def pieces(name, length=SIX, kind=FragmentKind.MESSAGE):
    return fragment(bytes([name]) * length, bytes([name]) * 16, kind)


def small(fragments, **limits):
    """Room for about so many fragments of two messages."""
    return ReassemblyLimits(size=2 * 1100 + fragments * (FRAGMENT_CAPACITY + 128), **limits)


@given(st.integers(0, 20_000), st.integers(0, 2**32), st.integers(1, 3))
def test_any_order_and_any_repeats_give_the_message_once(length, seed, repeats):
    source = random.Random(seed)
    message = source.randbytes(length)
    some = list(fragment(message, b"i" * 16)) * repeats
    source.shuffle(some)
    reassembler = Reassembler()
    whole = [one for one in (reassembler.add(each, 0.0) for each in some) if one is not None]
    assert whole == [message]
    assert reassembler.ledger.size == 0


@given(st.integers(0, 2**32))
def test_messages_that_arrive_together_do_not_mix(seed):
    source = random.Random(seed)
    messages = {bytes([name]) * 16: source.randbytes(source.randrange(6000)) for name in range(8)}
    some = [each for message_id, message in messages.items() for each in fragment(message, message_id)]
    source.shuffle(some)
    reassembler = Reassembler()
    for each in some:
        whole = reassembler.add(each, 0.0)
        if whole is not None:
            assert messages.pop(each.message_id) == whole
    assert not messages


def test_one_that_is_missing_is_waited_for():
    reassembler = Reassembler()
    some = pieces(1)
    for each in some[:-1]:
        assert reassembler.add(each, 0.0) is None
    assert reassembler.ledger.received(b"\1" * 16, 6) == b"\x1f"
    assert reassembler.add(some[-1], 1.0) == some.message
    assert reassembler.ledger.received(b"\1" * 16, 6) == b"\x3f"


def test_what_comes_after_the_message_is_a_repeat():
    ledger = Ledger()
    assert [ledger.add(each, 0.0) for each in pieces(1, 2 * FRAGMENT_CAPACITY)] == [Arrival.NEW, Arrival.COMPLETE]
    assert ledger.add(pieces(1, 2 * FRAGMENT_CAPACITY)[0], 1.0) is Arrival.DUPLICATE
    assert ledger.add(pieces(2, 5)[0], 1.0) is Arrival.COMPLETE
    assert ledger.add(pieces(2, 5)[0], 1.0) is Arrival.DUPLICATE


def test_what_was_delivered_is_remembered_for_its_time_and_restored_after_a_restart():
    ledger = Ledger(ReassemblyLimits(remember=100.0))
    ledger.finish(b"\1" * 16, 0.0)
    ledger.expire(99.0)
    assert ledger.add(pieces(1, 5)[0], 99.0) is Arrival.DUPLICATE
    ledger.expire(100.0)
    assert ledger.add(pieces(1, 5)[0], 100.0) is Arrival.COMPLETE


def test_the_number_of_remembered_ids_is_bounded():
    ledger = Ledger(ReassemblyLimits(remembered=10))
    for name in range(50):
        assert ledger.add(pieces(name, 5)[0], 0.0) is Arrival.COMPLETE
    assert ledger.add(pieces(40, 5)[0], 0.0) is Arrival.DUPLICATE
    assert ledger.add(pieces(39, 5)[0], 0.0) is Arrival.COMPLETE


def test_fragments_that_contradict_a_message_are_refused_and_do_not_harm_it():
    reassembler = Reassembler()
    some = pieces(1)
    reassembler.add(some[0], 0.0)
    longer = fragment(b"evil" * 10_000, b"\1" * 16)
    other_kind = Fragment(FragmentKind.REPLY, b"\1" * 16, SIX, 1, b"evil")
    other_content = Fragment(FragmentKind.MESSAGE, b"\1" * 16, SIX, 0, b"e" * FRAGMENT_CAPACITY)
    for each in (*longer[1:], other_kind):
        assert reassembler.ledger.add(each, 0.0) is Arrival.REFUSED
    assert reassembler.ledger.add(other_content, 0.0) is Arrival.DUPLICATE
    assert [reassembler.add(each, 0.0) for each in some[1:]][-1] == some.message


def test_scopes_keep_equal_ids_apart():
    reassembler = Reassembler()
    first, second = pieces(1, 3000), fragment(b"other" * 600, b"\1" * 16)
    reassembler.add(first[0], 0.0, b"a" * 16)
    reassembler.add(second[0], 0.0, b"b" * 16)
    assert reassembler.add(first[1], 0.0, b"a" * 16) == first.message
    assert reassembler.add(second[1], 0.0, b"b" * 16) == second.message


def test_a_message_without_progress_is_given_up_and_stays_so():
    reassembler = Reassembler(ReassemblyLimits(idle=100.0))
    some = pieces(1)
    reassembler.add(some[0], 0.0)
    reassembler.add(some[1], 90.0)
    assert reassembler.expire(189.0) == []
    gone = reassembler.expire(190.0)
    assert [message_id_of(key) for key in gone] == [b"\1" * 16]
    assert reassembler.expire(191.0) == []
    assert [reassembler.add(each, 200.0) for each in some] == [None] * 6
    assert len(reassembler.ledger) == reassembler.ledger.size == 0
    assert reassembler.ledger.received(b"\1" * 16, 6) == b"\0"


def test_a_repeat_is_no_progress():
    ledger = Ledger(ReassemblyLimits(idle=100.0))
    ledger.add(pieces(1)[0], 0.0)
    assert ledger.add(pieces(1)[0], 99.0) is Arrival.DUPLICATE
    assert ledger.expire(100.0) == [b"\1" * 16]


def test_a_message_that_trickles_is_given_up_at_its_greatest_age():
    ledger = Ledger(ReassemblyLimits(idle=100.0, age=250.0))
    for number, now in enumerate((0.0, 90.0, 180.0)):
        ledger.add(pieces(1)[number], now)
    assert ledger.expire(249.0) == []
    assert ledger.expire(250.0) == [b"\1" * 16]


def test_strangers_cannot_push_out_what_was_under_way_before_them():
    reassembler = Reassembler(small(8))
    mine, theirs = pieces(1), [pieces(name) for name in range(2, 60)]
    reassembler.add(mine[0], 0.0)
    for each in theirs:
        reassembler.add(each[0], 1.0)
        assert reassembler.ledger.size <= reassembler.limits.size
    for number in range(1, 5):
        assert reassembler.add(mine[number], 2.0) is None
        for each in theirs:
            reassembler.add(each[number], 2.0)
            assert reassembler.ledger.size <= reassembler.limits.size
    assert reassembler.add(mine[5], 3.0) == mine.message


def test_one_that_stands_still_makes_room_when_there_is_none():
    ledger = Ledger(small(6, idle_when_full=120.0))
    junk, mine = pieces(1), pieces(2)
    for each in junk[:5]:
        ledger.add(each, 0.0)
    assert ledger.add(mine[0], 0.0) is Arrival.NEW
    # Not yet: the junk was first, and mine is given up.
    assert ledger.add(mine[1], 119.0) is Arrival.REFUSED
    assert ledger.expire(119.0) == [b"\2" * 16]
    later = pieces(3)
    assert [ledger.add(each, 120.0) for each in later] == [Arrival.NEW] * 5 + [Arrival.COMPLETE]
    assert ledger.expire(120.0) == [b"\1" * 16]


def test_a_message_of_one_fragment_always_arrives():
    reassembler = Reassembler(small(4))
    for number in range(5):
        reassembler.add(pieces(1)[number], 0.0)
    assert reassembler.add(pieces(2)[0], 0.0) is None
    assert reassembler.add(pieces(3, 100)[0], 0.0) == b"\3" * 100


def test_claims_cost_nothing_and_contents_stay_within_the_bound():
    source = random.Random(7)
    reassembler = Reassembler(ReassemblyLimits(size=200_000))
    for _ in range(3000):
        number = source.randrange(255)
        hostile = Fragment(
            FragmentKind.MESSAGE, source.randbytes(16), 64 * 2**20, number, source.randbytes(FRAGMENT_CAPACITY)
        )
        reassembler.add(hostile, 0.0)
        assert reassembler.ledger.size <= 200_000
    assert 0 < sum(reassembler.held.values()) <= 200_000
    assert len(reassembler.held) == len(reassembler.ledger)


@pytest.mark.parametrize("seed", range(5))
def test_the_accounts_agree_whatever_comes(seed):
    """Random fragments of random messages, time passing: sizes and contents never drift apart."""
    source = random.Random(seed)
    reassembler = Reassembler(small(20, idle=50.0, idle_when_full=20.0, age=200.0, remember=300.0))
    now = 0.0
    for _ in range(4000):
        now += source.random() * 2
        name = source.randrange(1, 40)
        some = pieces(name, source.choice([5, SIX, SIX]) if name % 2 else SIX)
        reassembler.add(some[source.randrange(len(some))], now)
        if source.random() < 0.05:
            reassembler.expire(now)
        assert reassembler.ledger.size <= reassembler.limits.size
        assert set(reassembler.held) == reassembler.ledger.incomplete
    reassembler.expire(now + 1000)
    assert reassembler.ledger.size == len(reassembler.ledger) == len(reassembler.held) == 0


def test_a_message_of_64_mib():
    message = random.Random(1).randbytes(2**20) * 64
    reassembler = Reassembler()
    cut = fragment(message, b"i" * 16)
    order = list(range(len(cut)))
    random.Random(2).shuffle(order)
    whole = [one for one in (reassembler.add(cut[number], 0.0) for number in order) if one is not None]
    assert [one == message for one in whole] == [True]
