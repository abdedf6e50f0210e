"""Messages out of fragments: lost, repeated, reordered, and sent by somebody who means harm."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.errors import MailboxFull
from nymtw.message.fragments import FRAGMENT_CAPACITY, Fragment, FragmentKind, fragment
from nymtw.message.reassembly import Arrival, Ledger, Reassembler, ReassemblyLimits, message_id_of

SIX = 6 * FRAGMENT_CAPACITY


def pieces(name, length=SIX, kind=FragmentKind.MESSAGE):
    return fragment(bytes([name]) * length, bytes([name]) * 16, kind)


LONG = 20 * FRAGMENT_CAPACITY


def roomy(fragments, **limits):
    """Room for so many fragments of two long messages, and a seventh of that for short ones."""
    return ReassemblyLimits(size=(2 * 1100 + fragments * (FRAGMENT_CAPACITY + 128)) * 8 // 7 + 1, **limits)


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
        assert reassembler.ledger.add(each, 0.0) is Arrival.CONTRADICTION
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
    for each in some:
        with pytest.raises(MailboxFull):
            reassembler.add(each, 200.0)
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


def test_who_needs_longest_to_double_makes_room():
    ledger = Ledger(roomy(21))
    slow, quick = pieces(1, LONG), pieces(2, LONG)
    for number in range(10):
        ledger.add(slow[number], 10.0 * number)  # has doubled at 0, 10, 30 and 70
    for number in range(11):
        assert ledger.add(quick[number], 101.0) is Arrival.NEW
    assert ledger.add(quick[11], 102.0) is Arrival.NEW
    assert ledger.expire(102.0) == [b"\1" * 16]
    assert ledger.add(slow[10], 103.0) is Arrival.GIVEN_UP


def test_the_slowest_refuses_its_own_fragment_and_may_take_it_later():
    ledger = Ledger(roomy(21))
    slow, quick = pieces(1, LONG), pieces(2, LONG)
    for number in range(10):
        ledger.add(slow[number], 0.0)
    for number in range(11):
        ledger.add(quick[number], 50.0)
    assert ledger.add(slow[10], 60.0) is Arrival.REFUSED
    assert ledger.received(b"\1" * 16, len(slow)) == b"\xff\3\0"
    assert ledger.expire(60.0) == []
    ledger.give_up(b"\2" * 16, 61.0)
    assert ledger.add(slow[10], 62.0) is Arrival.NEW


def test_nobody_goes_who_has_just_doubled_and_what_is_refused_is_not_given_up():
    ledger = Ledger(roomy(21, grace=30.0))
    first, second = pieces(1, LONG), pieces(2, LONG)
    for number in range(19):
        ledger.add(first[number], 0.0)
    for number in range(2):
        ledger.add(second[number], 0.0)
    assert ledger.add(second[2], 29.0) is Arrival.REFUSED
    assert ledger.expire(29.0) == []
    ledger.add(second[1], 30.0)
    assert ledger.add(second[2], 30.0) is Arrival.NEW
    assert ledger.expire(30.0) == [b"\1" * 16]


def test_room_is_kept_for_short_messages():
    reassembler = Reassembler(roomy(20))
    for name in range(1, 60):
        with suppress(MailboxFull):
            reassembler.add(pieces(name, LONG)[0], 0.0)
    kept = reassembler.limits.kept
    assert reassembler.limits.size - kept - 3000 < reassembler.ledger.size <= reassembler.limits.size - kept
    short = pieces(100, 2 * FRAGMENT_CAPACITY)
    assert [reassembler.add(each, 0.0) for each in short] == [None, short.message]


def test_short_messages_give_back_what_they_took_of_the_room_for_long_ones():
    ledger = Ledger(roomy(20))
    for name in range(1, 100):
        ledger.add(pieces(name, 2 * FRAGMENT_CAPACITY)[0], 0.0)
    assert ledger.size > 0.9 * ledger.limits.size
    assert ledger.add(pieces(200, LONG)[0], 31.0) is Arrival.NEW
    assert ledger.expire(31.0) == [b"\1" * 16]


def test_what_can_never_be_whole_takes_no_room():
    ledger = Ledger(ReassemblyLimits(size=100_000))
    assert ledger.add(pieces(1, 90_000)[0], 0.0) is Arrival.GIVEN_UP
    assert ledger.size == len(ledger) == 0
    assert ledger.add(pieces(2, 70_000)[0], 0.0) is Arrival.NEW


def test_a_message_of_one_fragment_always_arrives():
    reassembler = Reassembler(roomy(4))
    for name in range(20):
        with suppress(MailboxFull):
            reassembler.add(pieces(name)[0], 0.0)
    assert reassembler.add(pieces(30, 100)[0], 0.0) == bytes([30]) * 100


def test_what_strangers_never_finish_does_not_make_us_forget_what_was_delivered():
    ledger = Ledger(ReassemblyLimits(size=20_000, remembered=10))
    assert ledger.add(pieces(1, 5)[0], 0.0) is Arrival.COMPLETE
    for number in range(100):
        ledger.add(pieces(2 + number % 250)[0], 31.0 * number)
    assert ledger.add(pieces(1, 5)[0], 4000.0) is Arrival.DUPLICATE


class Flood:
    """A stranger's fragments at `rate` a second, in one of the ways that keep memory longest."""

    def __init__(self, way, rate, source):
        self.way, self.rate, self.source = way, rate, source
        self.messages, self.at = [], 0

    def fragments(self):
        """The fragments of one second."""
        return [self.one() for _ in range(self.rate)]

    def one(self):
        if self.way == "first fragments of long messages":
            return self.fragment(self.source.randbytes(16), 200, 0)
        if self.way == "short ones that miss one":
            if self.at % 15 == 0:
                self.messages.append(self.source.randbytes(16))
            self.at += 1
            return self.fragment(self.messages[-1], 16, (self.at - 1) % 15)
        if self.way == "a hoard that is kept warm":
            if len(self.messages) < 40:
                self.messages.append(self.source.randbytes(16))
            self.at += 1
            return self.fragment(self.messages[self.at % len(self.messages)], 40_000, self.at // len(self.messages))
        raise ValueError(self.way)

    def fragment(self, name, count, number):
        return Fragment(FragmentKind.MESSAGE, name, count * FRAGMENT_CAPACITY, number, b"j" * FRAGMENT_CAPACITY)


@pytest.mark.parametrize(
    "way", ["first fragments of long messages", "short ones that miss one", "a hoard that is kept warm"]
)
@pytest.mark.parametrize("rate", [20, 40])
def test_messages_get_through_a_strangers_flood(way, rate, seed):
    """Little room, and 20 or 40 fragments a second of a stranger who never finishes anything, until the room would have
    been full three times over: every message of others arrives meanwhile, short or long.
    """
    source = random.Random(seed)
    ledger = Ledger(ReassemblyLimits(size=6 * 2**20))
    flood = Flood(way, rate, source)
    under_way, whole, lost = {}, 0, 0
    seconds = 3 * 6 * 2**20 // (rate * 1636)
    for now in range(seconds):
        for each in flood.fragments():
            ledger.add(each, now)
        if now % 10 == 0 and now < seconds - 60:  # one of 2, 5, 30, 100 or 300 fragments
            name, count = source.randbytes(16), source.choice((2, 5, 30, 100, 300))
            under_way[name] = [flood.fragment(name, count, number) for number in range(count)]
        for name, left in list(under_way.items()):
            for each in left[:10]:
                arrival = ledger.add(each, now)
                if arrival is Arrival.GIVEN_UP:
                    lost += 1
                    del under_way[name]
                    break
                if arrival is not Arrival.REFUSED:  # what is refused comes again
                    left.remove(each)
            if not left:
                whole += 1
                del under_way[name]
    assert ledger.size <= ledger.limits.size
    assert (lost, len(under_way)) == (0, 0)
    assert whole == len(range(0, seconds - 60, 10))


def test_claims_cost_nothing_and_contents_stay_within_the_bound():
    source = random.Random(7)
    reassembler = Reassembler(ReassemblyLimits(size=200_000))
    for _ in range(3000):
        number = source.randrange(60)
        hostile = Fragment(
            FragmentKind.MESSAGE, source.randbytes(16), 150_000, number, source.randbytes(FRAGMENT_CAPACITY)
        )
        with suppress(MailboxFull):
            reassembler.add(hostile, source.random() * 1000)
        assert reassembler.ledger.size <= 200_000
    assert 0 < sum(reassembler.held.values()) <= 200_000
    assert len(reassembler.held) == len(reassembler.ledger)


@pytest.mark.parametrize("seed", range(5))
def test_the_accounts_agree_whatever_comes(seed):
    """Random fragments of random messages, time passing: sizes and contents never drift apart."""
    source = random.Random(seed)
    reassembler = Reassembler(roomy(20, idle=50.0, grace=20.0, age=200.0, remember=300.0))
    now = 0.0
    for _ in range(4000):
        now += source.random() * 2
        name = source.randrange(1, 40)
        some = pieces(name, source.choice([5, SIX, SIX]) if name % 2 else SIX)
        with suppress(MailboxFull):
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
