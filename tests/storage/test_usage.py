"""What is counted agrees with what is there, whatever is refused, and a subscriber's fault is its own."""

import pytest

from nymtw.errors import MailboxFull, UnknownDestination
from nymtw.storage.mailbox_limits import MailboxLimits
from nymtw.storage.usage import MailboxUsage, Subscribers

ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32


def test_a_mailbox_that_is_coming_counts_until_it_has_come_or_not():
    usage = MailboxUsage(MailboxLimits(mailboxes=2))
    for mailbox in (ALICE, BOB, ALICE):
        usage.expect(mailbox)
    with pytest.raises(MailboxFull):
        usage.expect(CAROL)
    usage.not_registered([BOB])
    usage.expect(CAROL)
    usage.registered([ALICE, CAROL])
    with pytest.raises(MailboxFull):
        usage.expect(BOB)
    usage.expect(ALICE)  # who is there may come again
    assert set(usage.counts) == {ALICE, CAROL}


def test_what_is_refused_is_not_counted():
    usage = MailboxUsage(MailboxLimits(items_per_mailbox=2, bytes_per_mailbox=10, total_bytes=12))
    with pytest.raises(UnknownDestination):
        usage.take(ALICE, 1)
    usage.registered([ALICE, BOB])
    usage.take(ALICE, 9)
    for mailbox, size in ((ALICE, 2), (BOB, 4)):
        with pytest.raises(MailboxFull):
            usage.take(mailbox, size)
    usage.take(ALICE, 1)
    with pytest.raises(MailboxFull):
        usage.take(ALICE, 0)
    assert (usage.counts, usage.sizes, usage.bytes) == ({ALICE: 2, BOB: 0}, {ALICE: 10}, 10)
    usage.count_out([(ALICE, 9), (ALICE, 1)])
    assert (usage.counts, usage.sizes, usage.bytes) == ({ALICE: 0, BOB: 0}, {}, 0)


def test_counting_anew_forgets_what_was_expected():
    usage = MailboxUsage(MailboxLimits(mailboxes=2))
    usage.expect(CAROL)
    usage.start_from([ALICE], [(ALICE, 3, 30)])
    usage.expect(BOB)
    assert (usage.counts, usage.sizes, usage.bytes) == ({ALICE: 3}, {ALICE: 30}, 30)


def test_a_subscriber_that_raises_is_logged_and_the_next_is_told(expected_failures):
    expected_failures.append("A callback for new mail failed")
    told = []
    subscribers = Subscribers()
    subscribers.tell([ALICE])

    def broken(mailbox):
        raise RuntimeError(mailbox[:1])

    subscribers.add(broken)
    subscribers.add(told.append)
    subscribers.tell([ALICE, BOB, ALICE])
    assert told == [ALICE, BOB]
