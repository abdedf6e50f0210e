"""What is counted agrees with what is there, whatever is refused, and a subscriber's fault is its own."""

import pytest

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.storage.tally import MailboxLimits, Subscribers, Tally

ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32


def test_a_mailbox_that_is_coming_counts_until_it_has_come_or_not():
    tally = Tally(MailboxLimits(mailboxes=2))
    for mailbox in (ALICE, BOB, ALICE):
        tally.expect(mailbox)
    with pytest.raises(MailboxFull):
        tally.expect(CAROL)
    tally.not_registered([BOB])
    tally.expect(CAROL)
    tally.registered([ALICE, CAROL])
    with pytest.raises(MailboxFull):
        tally.expect(BOB)
    tally.expect(ALICE)  # who is there may come again
    assert set(tally.counts) == {ALICE, CAROL}


def test_what_is_refused_is_not_counted():
    tally = Tally(MailboxLimits(items_per_mailbox=2, bytes_per_mailbox=10, total_bytes=12))
    with pytest.raises(UnknownDestination):
        tally.take(ALICE, 1)
    tally.registered([ALICE, BOB])
    tally.take(ALICE, 9)
    for mailbox, size in ((ALICE, 2), (BOB, 4)):
        with pytest.raises(MailboxFull):
            tally.take(mailbox, size)
    tally.take(ALICE, 1)
    with pytest.raises(MailboxFull):
        tally.take(ALICE, 0)
    assert (tally.counts, tally.sizes, tally.bytes) == ({ALICE: 2, BOB: 0}, {ALICE: 10}, 10)
    tally.count_out([(ALICE, 9), (ALICE, 1)])
    assert (tally.counts, tally.sizes, tally.bytes) == ({ALICE: 0, BOB: 0}, {}, 0)


def test_counting_anew_forgets_what_was_expected():
    tally = Tally(MailboxLimits(mailboxes=2))
    tally.expect(CAROL)
    tally.start_from([ALICE], [(ALICE, 3, 30)])
    tally.expect(BOB)
    assert (tally.counts, tally.sizes, tally.bytes) == ({ALICE: 3}, {ALICE: 30}, 30)


def test_a_subscriber_that_raises_is_logged_and_the_next_is_told(expected_failures):
    expected_failures.append("Who was told of new mail failed")
    told = []
    subscribers = Subscribers()
    subscribers.tell([ALICE])

    def broken(mailbox):
        raise RuntimeError(mailbox[:1])

    subscribers.add(broken)
    subscribers.add(told.append)
    subscribers.tell([ALICE, BOB, ALICE])
    assert told == [ALICE, BOB]
