"""Addresses: read back, and every wrong letter told."""

import hashlib
import json
from pathlib import Path

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nymtw.errors import AddressError
from nymtw.topology.address import MAX_ADDRESS_LENGTH, Address, mailbox_id, split_address

pytestmark = pytest.mark.pythons

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "addresses.json").read_text())
NETWORK = bytes(range(16))
ADDRESS = Address(bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96)))
TEXT = ADDRESS.encode(NETWORK)
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def keys():
    return st.binary(min_size=32, max_size=32)


@given(keys(), keys(), keys(), st.binary(min_size=16, max_size=16))
def test_an_address_is_read_back(mailbox, key, provider, network):
    address = Address(mailbox, key, provider)
    text = address.encode(network)
    assert Address.parse(text, network) == address
    assert split_address(text) == (mailbox, key, provider)
    assert len(text) <= MAX_ADDRESS_LENGTH


def test_one_wrong_letter_anywhere_is_told():
    for at, letter in enumerate(TEXT):
        for other in (ALPHABET[(ALPHABET.find(letter) + 1) % 58], "1", "z"):
            if other != letter:
                with pytest.raises(AddressError):
                    Address.parse(TEXT[:at] + other + TEXT[at + 1 :], NETWORK)


def test_an_address_of_another_network_is_told():
    with pytest.raises(AddressError, match="another network"):
        Address.parse(TEXT, bytes(16))


def test_parts_of_two_addresses_do_not_make_a_third():
    other = Address(bytes(32), bytes(32), bytes(32)).encode(NETWORK)
    client, provider = TEXT.split("@")
    with pytest.raises(AddressError):
        Address.parse(f"{client}@{other.split('@')[1]}", NETWORK)
    with pytest.raises(AddressError):
        Address.parse(f"{other.split('@')[0]}@{provider}", NETWORK)


@pytest.mark.parametrize(
    "text",
    ["", "@", ".", ".@", TEXT + " ", " " + TEXT, TEXT + "\n", TEXT[:-1], "1" + TEXT, TEXT.replace("@", "."),
     TEXT + "@" + TEXT, TEXT.upper(), "0" * 152, "1" * 10**6, "é" + TEXT, TEXT.replace(".", ".1")],
)  # fmt: skip
def test_what_is_no_address_is_told(text):
    with pytest.raises(AddressError):
        Address.parse(text, NETWORK)


@given(st.text(max_size=200) | st.text(ALPHABET + ".@", max_size=160))
def test_hostile_text_is_an_address_error(text):
    with pytest.raises(AddressError):
        Address.parse(text, NETWORK)


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["text"][:8])
def test_known_answers(case):
    network = bytes.fromhex(case["network"])
    parts = [bytes.fromhex(case[name]) for name in ("mailbox", "encryption_key", "provider")]
    hashed = hashlib.blake2b(bytes.fromhex(case["mailbox_key"]), digest_size=32, person=b"nymtw mailbox").digest()
    assert parts[0] == hashed == mailbox_id(bytes.fromhex(case["mailbox_key"]))
    check = hashlib.blake2b(network + b"".join(parts), digest_size=12, person=b"nymtw address").digest()
    mailbox, key, provider = (
        base58.b58encode(part + check[4 * at : 4 * at + 4]).decode() for at, part in enumerate(parts)
    )
    assert case["text"] == f"{mailbox}.{key}@{provider}"
    assert Address.parse(case["text"], network) == Address(*parts)
