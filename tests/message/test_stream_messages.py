"""Streams: the messages, their order, and who may send how much, over a mixnet that delays, doubles and resends."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.encoding import to_cbor
from nymtw.errors import EncodingError
from nymtw.message.stream import (
    INITIAL_CREDIT,
    MAX_AHEAD,
    STREAM_OVERHEAD,
    STREAM_PART,
    WINDOW,
    ReceiveWindow,
    SendWindow,
    Sequencer,
    StreamError,
    StreamFailure,
    StreamMessage,
    StreamOpen,
)

ID = bytes(range(16))


def message(number, data=b"", **more):
    return StreamMessage(stream=ID, number=number, data=data, **more)


# -- messages

openings = st.builds(
    StreamOpen, host=st.from_regex(r"[0-9A-Za-z._:-]{1,255}", fullmatch=True), port=st.integers(1, 65535)
)
messages = st.builds(
    StreamMessage,
    stream=st.binary(min_size=16, max_size=16),
    number=st.integers(0, 2**32 - 1),
    opened=st.booleans(),
    failed=st.sampled_from([None, *StreamFailure]),
    data=st.binary(max_size=300),
    end=st.booleans(),
    credit=st.integers(0, 2**62 - 1),
    reset=st.booleans(),
    price=st.text(max_size=64),
    payment=st.binary(max_size=64),
)


@given(messages)
def test_a_message_is_read_back(one):
    assert StreamMessage.parse(one.encode()) == one


@given(openings)
def test_an_opening_is_read_back(opening):
    one = StreamMessage(stream=ID, open=opening)
    assert StreamMessage.parse(one.encode()) == one


def test_the_longest_message_is_read_back():
    one = StreamMessage(
        stream=b"\xff" * 16,
        open=StreamOpen(host="a" * 255, port=65535),
        opened=True,
        failed=max(StreamFailure, key=len),
        data=bytes(STREAM_PART),
        end=True,
        credit=2**62 - 1,
        reset=True,
    )
    assert StreamMessage.parse(one.encode()) == one
    assert len(one.encode()) <= STREAM_PART + STREAM_OVERHEAD + 255


def test_a_key_stroke_costs_little():
    assert len(message(1000, b"a", opened=True).encode()) < 60


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"stream": bytes(15)},
        {"stream": ID, "number": -1},
        {"stream": ID, "number": 2**32},
        {"stream": ID, "data": bytes(STREAM_PART + 1)},
        {"stream": ID, "data": "text"},
        {"stream": ID, "credit": -1},
        {"stream": ID, "failed": "because"},
        {"stream": ID, "more": 1},
        {"stream": ID, "number": 1, "open": {"host": "a", "port": 1}},
        *({"stream": ID, "open": {"host": host, "port": 80}} for host in ("", "a b", "a\n", "[::1]", "ä", "a" * 256)),
        {"stream": ID, "open": {"host": "fe80::1%eth0", "port": 80}},
        *({"stream": ID, "open": {"host": "a", "port": port}} for port in (0, 65536, "80")),
        {"stream": ID, "open": {"host": "a"}},
    ],
    ids=lambda plain: repr(plain)[:60],
)
def test_what_nobody_may_send_is_an_encoding_error(plain):
    with pytest.raises(EncodingError):
        StreamMessage.parse(to_cbor(plain))


@given(st.binary(max_size=200))
def test_hostile_bytes_are_an_encoding_error(data):
    try:
        assert isinstance(StreamMessage.parse(data), StreamMessage)
    except EncodingError:
        pass


def test_every_failure_is_a_reply_of_socks():
    assert {failure.socks5 for failure in StreamFailure} == {1, 2, 3, 4, 5, 6}


# -- order


@given(st.permutations(range(30)), st.lists(st.integers(0, 29), max_size=20))
def test_messages_come_out_in_order_and_once(order, repeats):
    sequencer, out = Sequencer(), []
    for at, number in enumerate(order):
        out += sequencer.add(message(number, b"%d" % number))
        out += sequencer.add(message(order[repeats[at % len(repeats)] % (at + 1)] if repeats else number))
    assert [one.number for one in out] == list(range(30))
    assert [one.data for one in out] == [b"%d" % number for number in range(30)]
    assert sequencer.size == 0


def test_what_is_too_far_ahead_is_refused_and_memory_is_bounded():
    sequencer = Sequencer(ahead=10)
    for number in range(1, 11):
        assert sequencer.add(message(number, b"1234")) == []
    size = sequencer.size
    for number in range(11, 1000):
        with pytest.raises(StreamError):
            sequencer.add(message(number))
    assert sequencer.size == size
    assert len(sequencer.add(message(0))) == 11
    assert sequencer.size == 0


# -- how much may be sent


def test_a_sender_stops_at_the_credit_and_old_credit_takes_nothing_back():
    window = SendWindow()
    assert window.room() == INITIAL_CREDIT
    assert window.take(INITIAL_CREDIT) == 0
    assert window.room() == 0
    with pytest.raises(StreamError):
        window.take(1)
    assert window.take() == 1
    window.allow(INITIAL_CREDIT + 10)
    window.allow(5)
    assert window.room() == 10


def test_a_sender_stops_while_an_old_message_is_missing():
    window = SendWindow(ahead=3)
    assert [window.take() for _ in range(3)] == [0, 1, 2]
    assert not window.may_send()
    assert window.room() == 0
    with pytest.raises(StreamError):
        window.take()
    window.arrived(1)
    window.arrived(2)
    window.arrived(2)
    assert not window.may_send()
    window.arrived(0)
    assert window.may_send()
    assert window.is_empty
    assert window.take(5) == 3
    assert (window.under_way, window.sent, window.is_empty) == (5, 5, False)


def test_credit_is_given_once_a_quarter_of_the_window_is_used_up():
    window = ReceiveWindow(WINDOW)
    assert window.credit() == WINDOW
    assert window.credit() == 0
    window.consumed(WINDOW // 4 - 1)
    assert window.credit() == 0
    window.consumed(1)
    assert window.credit() == WINDOW * 5 // 4


def test_a_receiver_whose_reader_takes_nothing_gives_no_credit():
    window = ReceiveWindow(INITIAL_CREDIT)
    assert window.credit() == 0
    assert window.take(message(0, bytes(STREAM_PART)))
    assert window.credit() == 0
    with pytest.raises(StreamError):
        window.take(message(1, b"x"))


def test_data_beyond_the_credit_is_told_even_while_a_message_is_missing():
    window = ReceiveWindow(INITIAL_CREDIT)
    assert window.take(message(5, bytes(STREAM_PART))) == []
    assert window.take(message(5, bytes(STREAM_PART))) == []
    with pytest.raises(StreamError):
        window.take(message(3, b"x"))


def test_nothing_comes_behind_an_end_and_no_credit_is_given():
    window = ReceiveWindow()
    assert window.take(message(1, b"x")) == []
    with pytest.raises(StreamError):
        window.take(message(0, end=True))
    other = ReceiveWindow()
    other.take(message(0, b"x", end=True))
    assert other.take(message(1, credit=5)) == [message(1, credit=5)]
    other.consumed(1)
    assert other.credit() == 0


def test_a_window_is_not_smaller_than_what_may_be_sent_at_once():
    with pytest.raises(ValueError, match="at least"):
        ReceiveWindow(INITIAL_CREDIT - 1)


class Line:
    """One direction of a stream over a mixnet in turns: 10 % are lost and come later, some twice, none in order."""

    def __init__(self, seed, window, data):
        self.random = random.Random(seed)
        self.sender, self.receiver = SendWindow(), ReceiveWindow(window)
        self.left, self.got, self.held, self.ended = data, b"", [], False
        self.flying = []
        self.credit = []
        self.most = 0

    def turn(self):
        self.sender.allow(self.receiver.credit())
        while self.left is not None and self.sender.may_send():
            length = min(self.sender.room(), self.random.choice([1, 100, 5000, STREAM_PART]), len(self.left))
            if not length and self.left:
                break
            data, self.left = self.left[:length], self.left[length:]
            last = not self.left
            self.flying.append((message(self.sender.take(length), data, end=last), True))
            if last:
                self.left = None
        self.random.shuffle(self.flying)
        arriving, self.flying = self.flying[:20], self.flying[20:]
        for one, first in arriving:
            if self.random.random() < 0.1:
                self.flying.append((one, first))
                continue
            if first:
                self.sender.arrived(one.number)
            if self.random.random() < 0.1:
                self.flying.append((one, False))
            for ready in self.receiver.take(one):
                assert not self.ended or not ready.data
                self.held.append(ready.data)
                self.ended = self.ended or ready.end
        self.most = max(self.most, sum(map(len, self.held)) + self.receiver.size)
        for _ in range(self.random.randrange(4)):
            if self.held:
                data = self.held.pop(0)
                self.got += data
                self.receiver.consumed(len(data))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([INITIAL_CREDIT, 300_000, WINDOW]), st.integers(0, 700_000))
def test_a_stream_arrives_whole_over_a_bad_mixnet_within_its_window(seed, window, length):
    data = random.Random(seed).randbytes(length)
    line = Line(seed, window, data)
    for _ in range(20_000):
        line.turn()
        if line.ended and not line.held and not line.flying:
            break
    assert line.ended
    assert line.got == data
    assert line.sender.is_empty
    assert line.most <= window + 512 * MAX_AHEAD
