"""SOCKS 4, 4a and 5 from tables, byte by byte, cut off, and from anything at all."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.client.proxies.socks import Handshake, SocksError, SocksReply, SocksRequest

V4_NO = bytes((0, 91)) + bytes(6)
GREET = b"\x05\x01\x00"
LOGIN = b"\x05\x01\x02" + b"\x01\x05alice\x06secret"
WEB = b"\x05\x01\x00\x03\x0bexample.org\x00\x50"
MAX_HELD = 1100

GOOD = {
    "4": (b"\x04\x01\x00\x50\xc0\x00\x02\x07\x00", b"", SocksRequest(4, "192.0.2.7", 80)),
    "4 with a user": (b"\x04\x01\x01\xbb\xc0\x00\x02\x07bob\x00", b"", SocksRequest(4, "192.0.2.7", 443, b"\x04bob")),
    "4, no address": (b"\x04\x01\x00\x50\x00\x00\x00\x00\x00", b"", SocksRequest(4, "0.0.0.0", 80)),
    "4a": (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.org\x00", b"", SocksRequest(4, "example.org", 80)),
    "4a, the last of its addresses": (b"\x04\x01\x00\x50\x00\x00\x00\xff\x00x\x00", b"", SocksRequest(4, "x", 80)),
    "4a, longest": (
        b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"u" * 255 + b"\0" + b"n" * 255 + b"\0",
        b"",
        SocksRequest(4, "n" * 255, 80, b"\x04" + b"u" * 255),
    ),
    "5, a name": (GREET + WEB, b"\x05\x00", SocksRequest(5, "example.org", 80)),
    "5, IPv4": (GREET + b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb", b"\x05\x00", SocksRequest(5, "192.0.2.7", 443)),
    "5, IPv6": (
        GREET + b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x07\x01\xbb",
        b"\x05\x00",
        SocksRequest(5, "2001:db8::7", 443),
    ),
    "5 with a password": (
        LOGIN + WEB,
        b"\x05\x02\x01\x00",
        SocksRequest(5, "example.org", 80, b"\x05\x05alicesecret"),
    ),
    "5, an IPv6 address as a name in brackets": (
        GREET + b"\x05\x01\x00\x03\x05[::1]\x00\x50",
        b"\x05\x00",
        SocksRequest(5, "::1", 80),
    ),
    "4a, an IPv6 address in brackets": (
        b"\x04\x01\x00\x50\x00\x00\x00\x01\x00[2001:DB8::2]\x00",
        b"",
        SocksRequest(4, "2001:db8::2", 80),
    ),
    "5, both offered": (
        b"\x05\x02\x00\x02\x01\x01u\x00" + WEB,
        b"\x05\x02\x01\x00",
        SocksRequest(5, "example.org", 80, b"\x05\x01u"),
    ),
    "5, many offered": (
        b"\x05\xff" + bytes(range(3, 257 - 1)) + b"\0\1" + WEB,
        b"\x05\x00",
        SocksRequest(5, "example.org", 80),
    ),
    "5, longest": (
        b"\x05\x01\x02\x01\xff"
        + b"u" * 255
        + b"\xff"
        + b"p" * 255
        + b"\x05\x01\x00\x03\xff"
        + b"n" * 255
        + b"\xff\xff",
        b"\x05\x02\x01\x00",
        SocksRequest(5, "n" * 255, 65535, b"\x05\xff" + b"u" * 255 + b"p" * 255),
    ),
}


def v5_no(reply: int) -> bytes:
    return bytes((5, reply, 0, 1)) + bytes(6)


BAD = {
    "nothing of SOCKS": (b"\x16\x03\x01", b""),
    "4, BIND": (b"\x04\x02\x00\x50\xc0\x00\x02\x07\x00", V4_NO),
    "4, an unknown command": (b"\x04\x09\x00\x50\xc0\x00\x02\x07\x00", V4_NO),
    "4, port 0": (b"\x04\x01\x00\x00\xc0\x00\x02\x07\x00", V4_NO),
    "4, a user id without an end": (b"\x04\x01\x00\x50\xc0\x00\x02\x07" + b"u" * 256, V4_NO),
    "4a, a name without an end": (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"n" * 256, V4_NO),
    "4a, no name": (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", V4_NO),
    "4a, a name with a newline": (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a\nb\x00", V4_NO),
    "5, no methods": (b"\x05\x00", b"\x05\xff"),
    "5, GSSAPI alone": (b"\x05\x01\x01", b"\x05\xff"),
    "5, another version of the password": (b"\x05\x01\x02\x05", b"\x05\x02\x01\x01"),
    "5, a request of version 4": (GREET + b"\x04", b"\x05\x00" + v5_no(1)),
    "5, reserved": (GREET + b"\x05\x01\x01", b"\x05\x00" + v5_no(1)),
    "5, BIND": (GREET + b"\x05\x02" + WEB[2:], b"\x05\x00" + v5_no(7)),
    "5, UDP ASSOCIATE": (GREET + b"\x05\x03\x00\x01" + bytes(6), b"\x05\x00" + v5_no(7)),
    "5, an unknown command": (GREET + b"\x05\xf0" + WEB[2:], b"\x05\x00" + v5_no(7)),
    "5, an unknown address": (GREET + b"\x05\x01\x00\x02", b"\x05\x00" + v5_no(8)),
    "5, no name": (GREET + b"\x05\x01\x00\x03\x00", b"\x05\x00" + v5_no(1)),
    "5, a name with a zero": (GREET + b"\x05\x01\x00\x03\x03a\x00b\x00\x50", b"\x05\x00" + v5_no(1)),
    "5, a name that is not ASCII": (GREET + b"\x05\x01\x00\x03\x02\xc3\xa9\x00\x50", b"\x05\x00" + v5_no(1)),
    "5, brackets around a name": (GREET + b"\x05\x01\x00\x03\x03[a]\x00\x50", b"\x05\x00" + v5_no(1)),
    "5, port 0": (GREET + WEB[:-2] + b"\0\0", b"\x05\x00" + v5_no(1)),
}


def feed(handshake: Handshake, pieces: Sequence[bytes]) -> bytes:
    return b"".join(map(handshake.receive, pieces))


@pytest.mark.parametrize(("sent", "answered", "request_"), GOOD.values(), ids=GOOD)
def test_what_is_asked(sent: bytes, answered: bytes, request_: SocksRequest) -> None:
    whole, slow = Handshake(), Handshake()
    assert (feed(whole, [sent + b"first data"]), whole.request) == (answered, request_)
    assert whole.take_rest() == b"first data"
    assert (feed(slow, [sent[at : at + 1] for at in range(len(sent))]), slow.request) == (answered, request_)
    assert slow.take_rest() == b""


@pytest.mark.parametrize(("sent", "answered", "request_"), GOOD.values(), ids=GOOD)
def test_what_is_cut_off_is_no_request_yet(sent: bytes, answered: bytes, request_: SocksRequest) -> None:
    for length in range(len(sent)):
        handshake = Handshake()
        assert answered.startswith(handshake.receive(sent[:length]))
        assert handshake.request is None


@pytest.mark.parametrize(("sent", "answered"), BAD.values(), ids=BAD)
def test_what_is_refused(sent: bytes, answered: bytes) -> None:
    handshake = Handshake()
    with pytest.raises(SocksError) as refused:
        handshake.receive(sent)
    assert refused.value.answer == answered
    slow, replies = Handshake(), b""
    for at in range(len(sent)):
        try:
            replies += slow.receive(sent[at : at + 1])
        except SocksError as error:
            replies += error.answer
            break
    else:
        pytest.fail("byte by byte it was not refused")
    assert replies == answered


def test_a_browser_that_takes_it_for_an_http_proxy_is_told() -> None:
    with pytest.raises(SocksError) as refused:
        Handshake().receive(b"GET http://example.org/ HTTP/1.1\r\n")
    assert refused.value.answer.startswith(b"HTTP/1.0 501 ")


def test_answers() -> None:
    old, new = SocksRequest(4, "192.0.2.7", 80), SocksRequest(5, "example.org", 80)
    assert old.answer(SocksReply.SUCCEEDED) == bytes((0, 90)) + bytes(6)
    assert {old.answer(reply) for reply in SocksReply if reply} == {V4_NO}
    for reply in SocksReply:
        assert new.answer(reply) == bytes((5, reply, 0, 1)) + bytes(6)
    assert new.answer(SocksReply.SUCCEEDED, ("192.0.2.7", 258)) == b"\x05\0\0\x01\xc0\0\x02\x07\x01\x02"
    assert new.answer(SocksReply.SUCCEEDED, ("::1", 258)) == b"\x05\0\0\x04" + bytes(15) + b"\x01\x01\x02"


def test_credentials_that_run_together_are_told_apart() -> None:
    def isolation(user: bytes, password: bytes) -> bytes:
        handshake = Handshake()
        login = b"\x05\x01\x02\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password
        handshake.receive(login + WEB)
        assert handshake.request is not None
        return handshake.request.isolation

    pairs = [(b"ab", b"c"), (b"a", b"bc"), (b"abc", b""), (b"", b"abc"), (b"", b"")]
    assert len({isolation(*pair) for pair in pairs} | {b""}) == len(pairs) + 1


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_anything_at_all(pieces: list[bytes]) -> None:
    """Nothing but `SocksError` is raised, and nothing is kept beyond what a request may be."""
    assert_bounded(Handshake(), pieces)


@given(
    st.sampled_from([b"\x04\x01\x00\x50\x00\x00\x00\x01", GREET, LOGIN, b"\x05\x01\x02", GREET + b"\x05\x01\x00\x03"]),
    st.lists(st.binary(max_size=300), max_size=10),
)
def test_anything_behind_a_good_beginning(begin: bytes, pieces: list[bytes]) -> None:
    assert_bounded(Handshake(), [begin, *pieces])


@given(st.sampled_from(list(GOOD.values())), st.lists(st.integers(0, 1500), max_size=8), st.binary(max_size=50))
def test_however_it_is_cut(good: tuple[bytes, bytes, SocksRequest], cuts: list[int], behind: bytes) -> None:
    sent, answered, request = good
    data = sent + behind
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    handshake = Handshake()
    assert feed(handshake, [data[a:b] for a, b in pairwise(places)]) == answered
    assert handshake.request == request
    assert handshake.take_rest() == behind


def assert_bounded(handshake: Handshake, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            handshake.receive(piece)
            if handshake.request is not None:
                assert 1 <= len(handshake.request.host) <= 255
                assert 1 <= handshake.request.port <= 65535
                return
            assert handshake.held <= MAX_HELD
    except SocksError:
        pass
