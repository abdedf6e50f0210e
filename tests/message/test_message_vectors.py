"""The known answers of the message formats, read by hand and by nymtw."""

import hashlib
import importlib.util
import json
from pathlib import Path

import cbor2
import pytest
from nacl.bindings import crypto_box_open, crypto_scalarmult_base
from nacl.public import PrivateKey, SealedBox

from nymtw.message.envelope import Envelope, ReplyReceipt, parse_request
from nymtw.message.fragments import Fragment
from nymtw.message.payload import split_payload
from nymtw.message.sealing import unseal
from nymtw.message.stream import StreamMessage

pytestmark = pytest.mark.pythons

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


def load(name):
    return json.loads((VECTORS / name).read_text())


def generator():
    spec = importlib.util.spec_from_file_location("generate_formats", VECTORS / "generate_formats.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(generator().FILES))
def test_the_known_answers_are_what_is_generated(name):
    assert generator().generate(name) == (VECTORS / name).read_text()


def test_payload():
    vector = load("payload.json")
    ack, payload = vector["ack_section"], bytes.fromhex(vector["payload"])
    assert len(payload) == 2048
    by_hand = ack["epoch"].to_bytes(4, "big") + bytes.fromhex(ack["first_hop"])
    by_hand += int(ack["delay"]).to_bytes(8, "big") + bytes.fromhex(ack["header"] + ack["stored"] + ack["refused"])
    assert by_hand.hex() == ack["encoded"]
    assert payload == by_hand + bytes.fromhex(vector["sealed"])
    section, sealed = split_payload(payload)
    assert (section.epoch, section.delay, sealed.hex()) == (ack["epoch"], int(ack["delay"]), vector["sealed"])


@pytest.mark.parametrize("case", load("sealing.json"), ids=lambda case: str(len(case["plaintext"]) // 2))
def test_sealing(case):
    private, sealed = bytes.fromhex(case["private_key"]), bytes.fromhex(case["sealed"])
    assert SealedBox(PrivateKey(private)).decrypt(sealed).hex() == case["plaintext"]
    assert unseal(sealed, private).hex() == case["plaintext"]
    assert sealed[:32] == crypto_scalarmult_base(bytes.fromhex(case["ephemeral_private_key"]))


@pytest.mark.parametrize("case", load("fragments.json"), ids=lambda case: f"{case['kind']}-{case['total']}")
def test_fragments(case):
    message = bytes(at * at % 251 for at in range(case["total"]))
    capacity = 2024 if case["kind"] == 3 else 1508
    for number, encoded in ((int(number), bytes.fromhex(text)) for number, text in case["encoded"].items()):
        content = message[number * capacity : (number + 1) * capacity]
        head = bytes([case["kind"]]) + bytes.fromhex(case["message_id"]) + case["total"].to_bytes(4, "big")
        head += (number // 255).to_bytes(2, "big") + bytes([number % 255])
        assert encoded == head + content + bytes(capacity - len(content))
        parsed = Fragment.parse(encoded)
        assert (parsed.number, parsed.count, parsed.content) == (number, case["count"], content)


@pytest.mark.parametrize("case", load("envelopes.json"), ids=lambda case: str(case["kind"]))
def test_envelopes(case):
    encoded = bytes.fromhex(case["encoded"])
    blocks = b"".join(block["epoch"].to_bytes(4, "big") + bytes.fromhex(block["surb"]) for block in case["blocks"])
    tag = bytes.fromhex(case["tag"] or "00" * 16)
    count = len(case["blocks"]).to_bytes(2, "big")
    assert encoded == bytes([1, case["kind"]]) + tag + count + blocks + bytes.fromhex(case["data"])
    envelope = Envelope.parse(encoded)
    assert envelope.encode() == encoded
    assert envelope.data.hex() == case["data"]
    if case["kind"] == 3:
        assert ReplyReceipt.parse(envelope.data).received() == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    if case["kind"] == 4:
        assert parse_request(envelope.data) == 300


def test_the_sealing_nonce_is_the_blake2b_of_both_keys():
    case = load("sealing.json")[1]
    sealed = bytes.fromhex(case["sealed"])
    nonce = hashlib.blake2b(sealed[:32] + bytes.fromhex(case["public_key"]), digest_size=24).digest()
    opened = crypto_box_open(sealed[32:], nonce, sealed[:32], bytes.fromhex(case["private_key"]))
    assert opened.hex() == case["plaintext"]


@pytest.mark.parametrize("case", load("streams.json"), ids=lambda case: "-".join(case["message"]))
def test_streams(case):
    encoded = bytes.fromhex(case["encoded"])
    plain = cbor2.loads(encoded)
    shown = {key: value.hex() if isinstance(value, bytes) else value for key, value in plain.items()}
    assert shown == case["message"]
    assert encoded == cbor2.dumps(plain, canonical=True) == StreamMessage.parse(encoded).encode()
