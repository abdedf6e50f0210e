"""Requests off the wire: however they are cut, however malformed."""

import base64
import json
import random
from typing import Any

import cbor2
import pytest

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nymtw.client.sockets.requests import Fetch, Reply, Send, Subscribe, parse_request, tag_text
from nymtw.client.sockets.wire import STEP, RawRequest, RequestParser, decode, encode, framed, message_bytes, unpacked
from nymtw.errors import AddressError, EncodingError
from nymtw.topology.address import Address

pytestmark = pytest.mark.pythons

NETWORK = bytes(16)
ADDRESS = Address(b"m" * 32, b"k" * 32, b"p" * 32)
TEXT = ADDRESS.encode(NETWORK)


def test_requests_survive_every_cut() -> None:
    stream = b'{"fetch": {}}\n\n' + framed(cbor2.dumps({"details": {}}), True) + b'\r\n{"status": {}}\n'
    expected = [RawRequest(b'{"fetch": {}}', False), RawRequest(cbor2.dumps({"details": {}}), True)]
    for seed in range(50):
        source = random.Random(seed)
        parser, found, rest = RequestParser(), [], stream
        while rest:
            cut = source.randint(1, 9)
            found += parser.feed(rest[:cut])
            rest = rest[cut:]
        assert found[:2] == expected, seed
        assert decode(found[2]) == {"status": {}}, seed
        assert parser.waiting == 0


def test_a_request_past_the_limit_is_refused_before_it_is_held() -> None:
    parser = RequestParser(limit=100)
    for _ in range(10):
        parser.feed(b"x" * 10)
    with pytest.raises(EncodingError):
        parser.feed(b"x" * 20)
    with pytest.raises(EncodingError):
        RequestParser(limit=100).feed((101).to_bytes(8, "big"))


def test_a_long_line_costs_no_more_than_its_length() -> None:
    parser = RequestParser()
    for _ in range(20_000):
        assert parser.feed(b"x" * 50) == []
    [request] = parser.feed(b"\n")
    assert len(request.body) == 1_000_000


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'"\xff"', b"POST / HTTP/1.1"])
def test_what_is_not_json_is_an_encoding_error(body: bytes) -> None:
    with pytest.raises(EncodingError):
        decode(RawRequest(body, False))


@pytest.mark.parametrize("body", [b"\xff", b"\x9f" * 50, cbor2.dumps({}) + b"\0", b"\x81" * 10_000])
def test_what_is_not_cbor_is_an_encoding_error(body: bytes) -> None:
    with pytest.raises(EncodingError):
        decode(RawRequest(body, True))


def test_bytes_are_base64_in_json_and_bytes_in_cbor() -> None:
    answer = {"received": {"message": b"\0\xff"}}
    assert json.loads(encode(answer, False)) == {"received": {"message": "AP8="}}
    assert cbor2.loads(encode(answer, True)) == answer
    assert message_bytes("AP8=") == message_bytes(b"\0\xff") == b"\0\xff"


@pytest.mark.parametrize("value", ["A", "AP8", "AP 8=", "é", 7, None, ["AP8="]])
def test_what_is_not_base64_is_an_encoding_error(value: object) -> None:
    with pytest.raises(EncodingError):
        message_bytes(value)


def test_both_forms_are_understood() -> None:
    assert parse_request({"send": {"message": "aGk=", "recipient": TEXT}}, NETWORK) == (Send(b"hi", ADDRESS), False)
    assert parse_request({"type": "send", "message": "hi", "recipient": TEXT}, NETWORK) == (Send(b"hi", ADDRESS), True)
    anonymous = {"type": "sendAnonymous", "message": "hi", "recipient": TEXT, "replySurbs": 5, "connectionId": 3}
    assert parse_request(anonymous, NETWORK) == (Send(b"hi", ADDRESS, 5, lane=3), True)
    tag = b"t" * 16
    reply = {"type": "reply", "message": "hi", "senderTag": tag_text(tag)}
    assert parse_request(reply, NETWORK) == (Reply(b"hi", tag), True)
    assert parse_request({"fetch": {}}, NETWORK) == (Fetch(), False)
    assert parse_request({"subscribe": {"confirm": True}}, NETWORK) == (Subscribe(confirm=True), False)


def test_the_originals_recipient_object() -> None:
    from nymtw.client.sockets.requests import recipient_object

    found = recipient_object(ADDRESS, TEXT, "127.0.0.1", 9000, b"s" * 32)
    request, _ = parse_request({"send": {"message": "", "recipient": found}}, NETWORK)
    assert request == Send(b"", ADDRESS)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"send": {}},
        {"send": {"message": "aGk="}},
        {"send": {"message": "aGk=", "recipient": TEXT, "extra": 1}},
        {"send": {"message": "aGk=", "recipient": TEXT, "replySurbs": -1}},
        {"send": {"message": "aGk=", "recipient": TEXT, "replySurbs": True}},
        {"fetch": {}, "details": {}},
        {"nonsense": {}},
        {7: {}},
        {"type": "nonsense"},
        {"type": ["send"]},
        {"reply": {"message": "aGk=", "senderTag": "0OIl"}},
        {"confirm": {"ids": "aa"}},
        {"progress": {"id": "zz"}},
    ],
)
def test_malformed_requests_are_refused(value: object) -> None:
    with pytest.raises(EncodingError):
        parse_request(value, NETWORK)


@pytest.mark.parametrize(
    "recipient", [TEXT[:-1] + ("1" if TEXT[-1] != "1" else "2"), ADDRESS.encode(b"x" * 16), "", {}, 7]
)
def test_a_wrong_recipient_is_told(recipient: object) -> None:
    with pytest.raises(AddressError):
        parse_request({"send": {"message": "aGk=", "recipient": recipient}}, NETWORK)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_long_message_is_decoded_in_turns(length: int) -> None:
    data = random.Random(length).randbytes(2 * STEP // 4 * 3 + length)
    text = base64.b64encode(data).decode()
    turns: list[float] = []

    class Turns(Clock):
        def callLater(self, delay: float, *args: Any, **kwargs: Any) -> Any:
            turns.append(delay)
            return super().callLater(delay, *args, **kwargs)

    clock = Turns()
    decoded = Deferred.fromCoroutine(unpacked({"send": {"message": text, "recipient": TEXT}}, clock))
    assert not decoded.called
    clock.advance(0)
    assert len(turns) == -(-len(text) // STEP)
    assert decoded.result == {"send": {"message": data, "recipient": TEXT}}


@pytest.mark.parametrize("at", [STEP - 1, STEP + 5, 2 * STEP])
def test_a_long_message_that_is_not_base64_is_an_encoding_error(at: int) -> None:
    text = "A" * at + "=" + "A" * (2 * STEP - at + 3)
    clock = Clock()
    failed = Deferred.fromCoroutine(unpacked({"send": {"message": text}}, clock))
    clock.pump([0] * 4)
    failed.addErrback(lambda failure: failure.trap(EncodingError))
    assert failed.result is EncodingError
