"""Lengths, published known answers, and the sender's shortcut against the chain as the paper writes it."""

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.errors import SphinxInputError
from nymtw.sphinx import GEOMETRIES, Geometry, SizeClass, generate_keypair, lioness, public_key, streams
from nymtw.sphinx.keys import (
    clamp,
    derive_keys,
    expand_seed,
    last_alpha,
    linear_scalar,
    multiply_chain,
    sender_keys,
)

pytestmark = pytest.mark.pythons

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
EIGHT_L = 8 * (2**252 + 27742317777372353535851937790883648493)


def test_lengths_are_those_of_the_format():
    assert {size_class: geometry.packet_length for size_class, geometry in GEOMETRIES.items()} == {
        SizeClass.REGULAR: 2413,
        SizeClass.ACK: 386,
        SizeClass.EXTENDED_8: 8557,
        SizeClass.EXTENDED_16: 16749,
        SizeClass.EXTENDED_32: 33133,
    }
    assert {int(size_class): size_class.name for size_class in SizeClass} == dict(
        enumerate(["REGULAR", "ACK", "EXTENDED_8", "EXTENDED_16", "EXTENDED_32"])
    )
    assert [Geometry.header_padding_length(hops) for hops in range(1, 6)] == [248, 188, 128, 68, 8]
    assert Geometry.surb_length(4) == 348 + 32 + 4 * 16
    assert Geometry.surb_length(4, 258) == 348 + 32 + 4 * 192
    assert Geometry.surb_length(4, single_seed=True) == 348 + 32 + 16


def test_lioness_known_answer():
    vector = json.loads((VECTORS / "lioness-chacha20-blake2b.json").read_text())
    key, plaintext, ciphertext = (bytes.fromhex(vector[name]) for name in ("key", "plaintext", "ciphertext"))
    assert lioness.encrypt(key, plaintext) == ciphertext
    assert lioness.decrypt(key, ciphertext) == plaintext


def test_key_derivation_known_answer():
    vector = json.loads((VECTORS / "sphinx-key-derivation.json").read_text())
    keys = derive_keys(bytes.fromhex(vector["shared_secret"]))
    assert keys.stream_key.hex() == vector["stream_key"]
    assert keys.mac_key.hex() == vector["header_mac_key"]
    assert keys.blinding_factor.hex() == vector["blinding_factor"]
    assert keys.replay_tag.hex() == vector["replay_tag_computed"]


def test_the_seed_overlaps_the_explicit_payload_key():
    keys = derive_keys(bytes(range(32)))
    assert len(keys.payload_key(258)) == len(keys.payload_key(259)) == 192
    assert keys.payload_key(259) == expand_seed(keys.payload_key(258)[:16])


@given(st.binary(min_size=192, max_size=192), st.binary(min_size=33, max_size=300))
@settings(max_examples=50, deadline=None)
def test_lioness_undoes_itself(key, block):
    encrypted = lioness.encrypt(key, block)
    assert len(encrypted) == len(block)
    assert lioness.decrypt(key, encrypted) == block
    assert lioness.encrypt(key, lioness.decrypt(key, block)) == block


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=400))
@settings(max_examples=50, deadline=None)
def test_kept_cipher_objects_answer_as_fresh_ones(key, data):
    assert streams.kept_chacha20(key, data) == streams.fresh_chacha20(key, data)
    assert streams.kept_aes_ctr(key[:16], data) == streams.fresh_aes_ctr(key[:16], data)


def test_threads_do_not_share_cipher_objects():
    wrong = []

    def work(number):
        key = bytes([number]) * 192
        block = bytes([number]) * 64
        expected = lioness.encrypt(key, block)
        wrong.extend(1 for _ in range(300) if lioness.encrypt(key, block) != expected)
        wrong.extend(1 for _ in range(300) if lioness.decrypt(key, expected) != block)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not wrong


@given(st.integers(0, 2**32), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_the_senders_shortcut_equals_the_chain(seed, hops):
    source = random.Random(seed)
    secret = source.randbytes(32)
    publics = [generate_keypair(source)[1] for _ in range(hops)]
    shared_secrets, keys = sender_keys(secret, publics)
    scalars = [secret]
    for public, shared, hop_keys in zip(publics, shared_secrets, keys, strict=True):
        assert shared == multiply_chain(scalars, public)
        assert hop_keys == derive_keys(shared)
        alpha = multiply_chain(scalars, (9).to_bytes(32, "little"))
        scalars.append(hop_keys.blinding_factor)
    assert last_alpha(secret, keys) == alpha


@pytest.mark.parametrize("product", [8, 2**100, 2**127, 2**255, EIGHT_L - 8, 2**255 + 2**100])
def test_a_product_out_of_reach_falls_back_to_the_chain(product):
    assert linear_scalar(product) is None


@pytest.mark.parametrize("product", [2**254, 2**255 - 8, 2**128, 2**253 + 8])
def test_a_product_in_reach_is_a_clamped_scalar(product):
    scalar = linear_scalar(product)
    assert clamp(scalar) == int.from_bytes(scalar, "little")
    assert clamp(scalar) in (product, EIGHT_L - product)


def test_the_chain_is_taken_where_the_shortcut_is_not_possible(monkeypatch):
    source = random.Random(2)
    secret = source.randbytes(32)
    publics = [generate_keypair(source)[1] for _ in range(5)]
    expected = sender_keys(secret, publics)
    alpha = last_alpha(secret, expected[1])
    monkeypatch.setattr("nymtw.sphinx.keys.linear_scalar", lambda _: None)
    assert sender_keys(secret, publics) == expected
    assert last_alpha(secret, expected[1]) == alpha


def test_key_pairs():
    private, public = generate_keypair(random.Random(1))
    assert public_key(private) == public
    assert generate_keypair(random.Random(1)) == (private, public)
    assert generate_keypair() != generate_keypair()
    with pytest.raises(SphinxInputError, match="32 bytes, not 33"):
        public_key(bytes(33))


def test_the_room_imports_no_reactor():
    check = "import sys, nymtw.sphinx; sys.exit(any(name.split('.')[0] == 'twisted' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
