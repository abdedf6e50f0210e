"""What client and provider say to each other: one length for every pull and every answer, and strict parsing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.encoding import to_cbor
from nymtw.link.control import (
    CONTENT_LENGTH,
    LoggedIn,
    Login,
    MailItem,
    MailKind,
    Refused,
    Register,
    Registered,
    encode_control,
    encode_mail,
    encode_pull,
    mail_length,
    parse_answer,
    parse_mail,
    parse_pull,
    parse_request,
)
from nymtw.link.frames import HEADER_LENGTH, FrameError

KEY, TOKEN, SIGNATURE = b"k" * 32, b"t" * 32, b"s" * 64


def body(frame):
    return frame[HEADER_LENGTH:]


@pytest.mark.parametrize("request_", [Register(KEY, SIGNATURE), Login(KEY, TOKEN, SIGNATURE)])
def test_requests_come_back(request_):
    assert parse_request(body(encode_control(request_))) == request_


@pytest.mark.parametrize("answer", [Registered(TOKEN), LoggedIn(16), Refused("no")])
def test_answers_come_back(answer):
    assert parse_answer(body(encode_control(answer))) == answer


def test_a_request_is_no_answer_and_an_answer_no_request():
    with pytest.raises(FrameError):
        parse_answer(body(encode_control(Register(KEY, SIGNATURE))))
    with pytest.raises(FrameError):
        parse_request(body(encode_control(LoggedIn(16))))


@pytest.mark.parametrize(
    "plain",
    [
        {"type": "register", "mailbox_key": b"short", "signature": SIGNATURE},
        {"type": "register", "mailbox_key": KEY, "signature": b"short"},
        {"type": "register", "mailbox_key": KEY},
        {"type": "register", "mailbox_key": KEY, "signature": SIGNATURE, "more": 1},
        {"type": "login", "mailbox_key": KEY, "token": "t" * 32, "signature": SIGNATURE},
        {"type": "no such"},
        {},
        [],
        7,
    ],
)
def test_strange_requests_are_frame_errors(plain):
    with pytest.raises(FrameError):
        parse_request(to_cbor(plain))


@pytest.mark.parametrize("slots", [0, -1, 1025, "16"])
def test_strange_numbers_of_slots_are_frame_errors(slots):
    with pytest.raises(FrameError):
        parse_answer(to_cbor({"type": "logged-in", "slots": slots}))


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_else(data):
    for parse in (parse_request, parse_answer, lambda data: parse_pull(data, 4), lambda data: parse_mail(data, 1)):
        try:
            assert parse(data) is not None
        except FrameError:
            pass


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**64 - 1), max_size=16))
def test_pulls_are_of_one_length(numbers):
    frame = encode_pull(numbers, 16)
    assert len(frame) == HEADER_LENGTH + 16 * 8
    assert parse_pull(body(frame), 16) == numbers


def test_a_pull_of_the_wrong_length_is_refused():
    with pytest.raises(FrameError):
        parse_pull(bytes(15 * 8), 16)
    with pytest.raises(ValueError):
        encode_pull([1, 2, 3], 2)


items = st.lists(
    st.builds(
        MailItem,
        st.integers(1, 2**64 - 1),
        st.sampled_from([int(kind) for kind in MailKind]),
        st.binary(max_size=CONTENT_LENGTH),
    ),
    max_size=4,
)


@settings(deadline=None)
@given(items)
def test_mail_is_of_one_length_whatever_it_holds(mail):
    frame = encode_mail(mail, 4)
    assert len(frame) == HEADER_LENGTH + mail_length(4) == HEADER_LENGTH + 4 * 2424
    assert parse_mail(body(frame), 4) == mail


def test_what_does_not_fit_is_not_encoded():
    with pytest.raises(ValueError):
        encode_mail([MailItem(1, 1, b"")] * 3, 2)
    with pytest.raises(ValueError):
        encode_mail([MailItem(1, 1, bytes(CONTENT_LENGTH + 1))], 2)


@settings(deadline=None)
@given(items, st.data())
def test_a_flipped_byte_of_mail_raises_nothing_else(mail, data):
    damaged = bytearray(body(encode_mail(mail, 4)))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert len(parse_mail(bytes(damaged), 4)) <= 4
    except FrameError:
        pass


def test_mail_whose_padding_or_dummies_are_not_empty_is_refused():
    mail = body(encode_mail([MailItem(1, 1, b"abc")], 2))
    for at in (-1, 11 + 3, 2424 + 10, 2424):
        damaged = bytearray(mail)
        damaged[at] = 1
        with pytest.raises(FrameError):
            parse_mail(bytes(damaged), 2)
