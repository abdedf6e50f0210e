"""The facade over the library: encodings, hashing, tables; py_ecc has a third opinion."""

import hashlib

import pytest
from credential_parts import drawn
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, compress_G2, decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import (
    G1 as ECC_G1,
)
from py_ecc.optimized_bls12_381 import (
    G2 as ECC_G2,
)
from py_ecc.optimized_bls12_381 import (
    curve_order,
    final_exponentiate,
    multiply,
    neg,
    pairing,
)

from nymtw.credentials.curve import (
    G1,
    G1_BASE,
    G2,
    G2_BASE,
    HASH_TO_G1_DOMAIN,
    ORDER,
    Base,
    Scalar,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode,
    framed,
    hash_to_g1,
    hash_to_scalar,
    identity_of,
    is_identity,
    pairings_cancel,
    random_scalar,
    random_weight,
    scalar,
    sum_of_products,
)
from nymtw.errors import EncodingError

pytestmark = pytest.mark.pythons

G1_INFINITY = b"\xc0" + bytes(47)
G2_INFINITY = b"\xc0" + bytes(95)


class Fixed:
    """Gives out these bytes."""

    def __init__(self, *drawn):
        self.drawn = list(drawn)

    def randbytes(self, count):
        given = self.drawn.pop(0)
        assert len(given) == count
        return given


def numbers_of(point):
    """The bytes of a py_ecc point of G1 or G2, compressed."""
    if len(point) == 3 and hasattr(point[0], "coeffs"):
        high, low = compress_G2(point)
        return high.to_bytes(48, "big") + low.to_bytes(48, "big")
    return compress_G1(point).to_bytes(48, "big")


@pytest.mark.pythons
def test_hashing_to_g1_is_that_of_rfc_9380():
    # Appendix J.9.1, msg "": the library under the RFC's own domain.
    point = G1.hash_to_curve(b"", b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_")
    assert point.to_xy_bytes_be().hex() == (
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1"
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265"
    )


def test_py_ecc_agrees_on_encodings_and_hashing():
    factor = 0x1234567890ABCDEF
    assert numbers_of(multiply(ECC_G1, factor)) == encode(G1_BASE * Scalar(factor))
    assert numbers_of(multiply(ECC_G2, factor)) == encode(G2_BASE * Scalar(factor))
    assert decompress_G1(int.from_bytes(encode(G1_BASE.point), "big"))[:2] == ECC_G1[:2]
    g2 = encode(G2_BASE.point)
    assert decompress_G2((int.from_bytes(g2[:48], "big"), int.from_bytes(g2[48:], "big")))[:2] == ECC_G2[:2]
    hashed = hash_to_G1(framed([b"one", b"two"]), HASH_TO_G1_DOMAIN, hashlib.sha256)
    assert numbers_of(hashed) == encode(hash_to_g1(b"one", b"two"))
    assert curve_order == ORDER


def test_py_ecc_agrees_on_a_pairing_equation():
    pairs = ((ECC_G2, multiply(ECC_G1, 6)), (multiply(ECC_G2, 2), neg(multiply(ECC_G1, 3))))
    left, right = (pairing(*pair, final_exponentiate=False) for pair in pairs)
    assert final_exponentiate(left * right) == left.one()
    six, two, three = (Scalar(number) for number in (6, 2, 3))
    assert pairings_cancel([(G1_BASE * six, G2_BASE.point), (-(G1_BASE * three), G2_BASE * two)])
    assert not pairings_cancel([(G1_BASE * six, G2_BASE.point), (-(G1_BASE * two), G2_BASE * two)])


@pytest.mark.parametrize("base", [G1_BASE, G2_BASE])
@pytest.mark.parametrize("factor", [0, 1, 255, 256, ORDER - 1, 0x5A5A << 200])
def test_a_table_multiplies_like_the_library(base, factor):
    assert base * Scalar(factor) == base.point * Scalar(factor) == Base(base.point) * Scalar(factor)


@pytest.mark.pythons
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_sum_of_products(count):
    source = drawn("sum")
    scalars = [random_scalar(source) for _ in range(count)]
    for base in (G1_BASE, G2_BASE):
        points = [base * random_scalar(source) for _ in range(count)]
        expected = identity_of(base.point)
        for point, factor in zip(points, scalars, strict=True):
            expected = expected + point * factor
        assert sum_of_products(points, scalars) == expected


@pytest.mark.parametrize(("points", "scalars"), [(0, 0), (1, 2), (3, 2), (4, 5)])
def test_a_sum_of_products_of_unequal_lists_is_refused(points, scalars):
    with pytest.raises(ValueError, match="points and"):
        sum_of_products([G1_BASE.point] * points, [Scalar(2)] * scalars)
    # The library would take the shorter list.
    assert G1.multiexp_unchecked([G1_BASE.point], [Scalar(2), Scalar(3)]) == G1_BASE * Scalar(2)


@pytest.mark.parametrize(
    ("decode", "infinity", "library"), [(decode_g1, G1_INFINITY, G1), (decode_g2, G2_INFINITY, G2)]
)
def test_infinity_is_refused_in_every_encoding_though_the_library_takes_several(decode, infinity, library):
    spellings = [infinity, infinity[:-1] + b"\1", b"\xe0" + infinity[1:]]
    for spelling in spellings:
        assert is_identity(library.from_compressed_bytes(spelling))
        with pytest.raises(EncodingError):
            decode(spelling)


@pytest.mark.pythons
@pytest.mark.parametrize(("decode", "base"), [(decode_g1, G1_BASE), (decode_g2, G2_BASE)])
def test_points_have_one_encoding(decode, base):
    data = encode(base.point)
    assert decode(data) == base.point
    for bad in (data[:-1], data + b"\0", b"", bytes(len(data)), b"\xff" * len(data), b"\x1f" + data[1:]):
        with pytest.raises(EncodingError):
            decode(bad)


@pytest.mark.pythons
def test_a_point_outside_the_subgroup_is_refused():
    # x = 4 gives a point of the curve, of another order.
    outside = bytes([0x80]) + bytes(46) + b"\4"
    assert not G1.from_compressed_bytes_unchecked(outside).is_in_subgroup()
    with pytest.raises(EncodingError, match="not a point of the group"):
        decode_g1(outside)


def test_a_coordinate_above_the_field_is_refused():
    field = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
    x = int.from_bytes(encode(G1_BASE * Scalar(3)), "big") & ((1 << 381) - 1)
    if x + field < 1 << 381:
        with pytest.raises(EncodingError):
            decode_g1(((0b100 << 381) | (x + field)).to_bytes(48, "big"))
    with pytest.raises(EncodingError):
        decode_g1(((0b100 << 381) | field).to_bytes(48, "big"))


@pytest.mark.pythons
def test_scalars_have_one_encoding():
    assert decode_scalar(bytes(32)) == Scalar(0)
    assert decode_scalar((ORDER - 1).to_bytes(32, "big")) == -Scalar(1)
    for bad in (ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(31), bytes(33)):
        with pytest.raises(EncodingError):
            decode_scalar(bad)
    for bad in (-1, ORDER):
        with pytest.raises(EncodingError):
            scalar(bad)


def test_random_scalars_are_64_bytes_reduced_and_never_zero():
    wide = (ORDER + 5).to_bytes(64, "big")
    assert random_scalar(Fixed(bytes(64), ORDER.to_bytes(64, "big"), wide)) == Scalar(5)
    assert random_weight(Fixed(bytes(16), b"\0" * 15 + b"\7")) == Scalar(7)


def test_what_is_hashed_is_framed():
    assert hash_to_scalar(b"ab", b"c") != hash_to_scalar(b"a", b"bc")
    assert hash_to_g1(b"ab", b"c") != hash_to_g1(b"a", b"bc")
    digest = hashlib.sha512(b"\0\0\0\2ab\0\0\0\1c").digest()
    assert hash_to_scalar(b"ab", b"c") == Scalar(int.from_bytes(digest, "big") % ORDER)
