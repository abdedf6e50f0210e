"""What opening a stream costs while an exit is short of places: a small proof of work. Pure: the caller finds the time.

A price is a text. "work N" asks for a payment of 8 bytes with which BLAKE2b-256(tag + stream + payment, person "nymtw
opening") begins with N zero bits (Hashcash). A payment is worth something for one stream of one tag alone.
"""

import hashlib
import re
from collections.abc import Iterator
from itertools import count
from typing import Final

PAYMENT_LENGTH: Final = 8
MOST_WORK: Final = 22  # bits that a client is ready to pay: some seconds
PRICE_LENGTH: Final = 64  # characters
_WORK: Final = re.compile(r"work ([1-9][0-9]?)\Z")
_AT_ONCE: Final = 2000  # attempts, a millisecond or two


def work_price(bits: int) -> str:
    """The price of so many bits; "" for none."""
    return f"work {bits}" if bits else ""


def bits_of(price: str) -> int | None:
    """The bits that a price asks for; None for another kind of price."""
    found = _WORK.match(price)
    return int(found.group(1)) if found else None


def is_worked(bits: int, tag: bytes, stream: bytes, payment: bytes) -> bool:
    """Whether this payment is worth so many bits."""
    return len(payment) == PAYMENT_LENGTH and _has_zeros(bits, tag + stream, payment)


def work(bits: int, tag: bytes, stream: bytes) -> Iterator[bytes | None]:
    """Search a payment: None after each millisecond or two, and the payment at the end. 2**bits attempts on average."""
    about = tag + stream
    for number in count():
        payment = number.to_bytes(PAYMENT_LENGTH, "big")
        if _has_zeros(bits, about, payment):
            yield payment
            return
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield None


def _has_zeros(bits: int, about: bytes, payment: bytes) -> bool:
    digest = hashlib.blake2b(about + payment, digest_size=32, person=b"nymtw opening").digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits) == 0
