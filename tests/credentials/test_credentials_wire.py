"""Byte forms: one for each object, and nothing else is one."""

import re

import pytest
from credential_parts import CONTEXT, INFO, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import BlindShare, Pending, Share, unblind
from nymtw.credentials.complaints import Complaint, complain
from nymtw.credentials.curve import ORDER, decode_g1, decode_g2
from nymtw.credentials.dkg import Dealing, TransportKey, TransportSecret, deal_to
from nymtw.credentials.keys import IssuerKey, SecretKey, VerificationKey
from nymtw.credentials.wire import Kind, Reader, byte, integer
from nymtw.errors import EncodingError

pytestmark = pytest.mark.pythons


@pytest.fixture(scope="module")
def objects(dealt, issued, credential, shown, withdrawn, book, helpers, payment):
    """One of each, with its parser."""
    secrets = [TransportSecret.generate(drawn(f"transport {number}")) for number in range(2)]
    dealing = deal_to([secret.public() for secret in secrets], 1, 2, 1, b"round", drawn("dealing"))
    return {
        Kind.SECRET_KEY: (dealt.secrets[0], SecretKey.from_bytes),
        Kind.VERIFICATION_KEY: (dealt.key, VerificationKey.from_bytes),
        Kind.ISSUER_KEY: (dealt.issuers[1], IssuerKey.from_bytes),
        Kind.PENDING: (issued.pending, Pending.from_bytes),
        Kind.BLIND_SHARE: (issued.answers[0], BlindShare.from_bytes),
        Kind.SHARE: (unblind(dealt.issuers[0], issued.pending, issued.answers[0]), Share.from_bytes),
        Kind.COCONUT_REQUEST: (issued.request, coconut.Request.from_bytes),
        Kind.CREDENTIAL: (credential, coconut.Credential.from_bytes),
        Kind.SHOW: (shown, coconut.Show.from_bytes),
        Kind.SHOW_CONTEXT: (CONTEXT, coconut.Context.from_bytes),
        Kind.WITHDRAWAL: (withdrawn[0], ecash.Withdrawal.from_bytes),
        Kind.INDEX_SIGNATURES: (helpers.indices, lambda data: ecash.HelperSignatures.from_bytes(data, ecash.Indices)),
        Kind.DATE_SIGNATURES: (helpers.dates, lambda data: ecash.HelperSignatures.from_bytes(data, ecash.Dates)),
        Kind.TICKET_BOOK: (book, ecash.TicketBook.from_bytes),
        Kind.PAYMENT_INFO: (INFO, ecash.PaymentInfo.from_bytes),
        Kind.PAYMENT: (payment, ecash.Payment.from_bytes),
        Kind.TRANSPORT_KEY: (secrets[0].public(), TransportKey.from_bytes),
        Kind.TRANSPORT_SECRET: (secrets[0], TransportSecret.from_bytes),
        Kind.DEALING: (dealing, Dealing.from_bytes),
        Kind.COMPLAINT: (complain(dealing, 2, secrets[1], b"round", drawn("complaint")), Complaint.from_bytes),
    }


@pytest.mark.parametrize("kind", Kind)
def test_each_object_comes_back_from_its_bytes(objects, kind):
    one, parse = objects[kind]
    data = one.to_bytes()
    assert data[0] == kind
    assert parse(data) == one
    assert parse(data).to_bytes() == data


# What the docstrings say, for q = 4, 2 of 3 issuers, 2 private and 2 public attributes, 3 tickets, 2 days, 1 paid.
LENGTHS = {
    Kind.SECRET_KEY: 4 + 32 * 5,
    Kind.VERIFICATION_KEY: 2 + 96 + 144 * 4,
    Kind.ISSUER_KEY: 3 + 2 + 96 + 144 * 4,
    Kind.PENDING: 51 + 32 * 6,
    Kind.BLIND_SHARE: 98,
    Kind.SHARE: 98,
    Kind.COCONUT_REQUEST: 115 + 112 * 2 + 32 * 2,
    Kind.CREDENTIAL: 99 + 32 * 4,
    Kind.SHOW: 355 + 32 * 4,
    Kind.WITHDRAWAL: 390,
    Kind.INDEX_SIGNATURES: 2 + 1 + 48 * 3,
    Kind.DATE_SIGNATURES: 2 + 8 + 48 * 2,
    Kind.TICKET_BOOK: 167,
    Kind.PAYMENT_INFO: 57,
    Kind.PAYMENT: 659 + 496,
    Kind.TRANSPORT_KEY: 49,
    Kind.TRANSPORT_SECRET: 33,
    Kind.COMPLAINT: 115,
}


@pytest.mark.parametrize(("kind", "length"), LENGTHS.items())
def test_lengths_are_those_that_are_written(objects, kind, length):
    assert len(objects[kind][0].to_bytes()) == length


@pytest.mark.parametrize("kind", Kind)
def test_other_lengths_and_types_are_refused(objects, kind):
    one, parse = objects[kind]
    data = one.to_bytes()
    for bad in (b"", data[:1], data[:-1], data + b"\0", byte(kind ^ 0x40) + data[1:], data[1:]):
        with pytest.raises(EncodingError):
            parse(bad)


def places(data, length, decode):
    """Where a point of this length stands in the bytes: each place that decodes."""
    found = []
    for start in range(len(data) - length + 1):
        if data[start] & 0x80:
            try:
                decode(data[start : start + length])
            except EncodingError:
                continue
            found.append(start)
    return found


@pytest.mark.parametrize("kind", Kind)
def test_infinity_and_other_spellings_are_refused_wherever_a_point_stands(objects, kind):
    one, parse = objects[kind]
    data = one.to_bytes()
    points = 0
    for length, decode in ((96, decode_g2), (48, decode_g1)):
        for start in places(data, length, decode):
            points += 1
            point = data[start : start + length]
            infinity = b"\xc0" + bytes(length - 1)
            spellings = (infinity, infinity[:-1] + b"\1", b"\xe0" + infinity[1:], bytes([point[0] & 0x7F]) + point[1:])
            for spelling in spellings:
                with pytest.raises(EncodingError):
                    parse(data[:start] + spelling + data[start + length :])
    bare = {Kind.SECRET_KEY, Kind.SHOW_CONTEXT, Kind.PAYMENT_INFO, Kind.TRANSPORT_SECRET}
    assert bool(points) is (kind not in bare)


SCALARS_BEHIND = [
    Kind.SECRET_KEY,
    Kind.PENDING,
    Kind.COCONUT_REQUEST,
    Kind.CREDENTIAL,
    Kind.SHOW,
    Kind.WITHDRAWAL,
    Kind.PAYMENT,
    Kind.TRANSPORT_SECRET,
    Kind.DEALING,
    Kind.COMPLAINT,
]


@pytest.mark.parametrize("kind", SCALARS_BEHIND)
def test_a_scalar_above_the_order_is_refused(objects, kind):
    """The last field of these is a scalar: s and s + r would be one."""
    one, parse = objects[kind]
    data = one.to_bytes()
    value = int.from_bytes(data[-32:], "big")
    with pytest.raises(EncodingError):
        parse(data[:-32] + ORDER.to_bytes(32, "big"))
    if value + ORDER < 2**256:
        with pytest.raises(EncodingError):
            parse(data[:-32] + (value + ORDER).to_bytes(32, "big"))


@settings(max_examples=60)
@given(data=st.binary(max_size=200), kind=st.sampled_from(list(Kind)))
def test_hostile_bytes_are_an_encoding_error_or_canonical(objects, data, kind):
    _, parse = objects[kind]
    for hostile in (data, byte(kind) + data):
        try:
            parsed = parse(hostile)
        except EncodingError:
            continue
        assert parsed.to_bytes() == hostile


@settings(max_examples=60)
@given(
    kind=st.sampled_from(list(Kind)),
    place=st.integers(0, 10**6),
    change=st.integers(1, 255),
    cut=st.integers(0, 40),
    tail=st.binary(max_size=3),
)
def test_altered_bytes_are_refused_or_another_object(objects, kind, place, change, cut, tail):
    one, parse = objects[kind]
    data = bytearray(one.to_bytes())
    data[place % min(len(data), 120)] ^= change
    hostile = bytes(data[: len(data) - cut]) + tail
    try:
        parsed = parse(hostile)
    except EncodingError:
        return
    assert parsed.to_bytes() == hostile
    assert parsed != one


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        (Kind.SECRET_KEY, "0001 01"),
        (Kind.SECRET_KEY, "0100 01"),
        (Kind.SECRET_KEY, "0101 00"),
        (Kind.SECRET_KEY, "0101 21"),
        (Kind.PENDING, "00 01"),
        (Kind.PENDING, "02 01"),
        (Kind.COCONUT_REQUEST, "00 01"),
        (Kind.COCONUT_REQUEST, "20 01"),
        (Kind.SHOW, "00 01"),
        (Kind.PAYMENT, "07 00"),
        (Kind.INDEX_SIGNATURES, "01 00"),
        (Kind.DATE_SIGNATURES, "01 00000001 00000002"),
        (Kind.DEALING, "01 03 01 02"),
        (Kind.DEALING, "00 01 01 01"),
    ],
)
def test_counts_that_cannot_be_are_refused_before_anything_else(objects, kind, header):
    _, parse = objects[kind]
    with pytest.raises(EncodingError, match=re.compile("allowed|days")):
        parse(byte(kind) + bytes.fromhex(header))


def test_numbers_that_do_not_fit_are_refused():
    for number, length in ((256, 1), (-1, 1), (2**32, 4)):
        with pytest.raises(EncodingError):
            integer(number, length)
    with pytest.raises(EncodingError):
        Reader(b"", Kind.SHOW)
