"""The public bases of e-cash and what a book holds."""

from functools import lru_cache
from hashlib import sha512
from typing import Any, Final

from nymtw.credentials.curve import G1, G1_BASE, G2_BASE, Base, framed, hash_to_g1, hash_to_scalar
from nymtw.errors import EncodingError

DOMAIN: Final = b"NYMTW-CREDENTIALS-V1 ecash"
ATTRIBUTES: Final = 4  # the book's secret key, its seed v, its expiry, its type
TICKETS: Final = 50
MAX_TICKETS: Final = 255
# The type's place in the issuers' signatures on dates and indices, so that neither can pass for a book.
DATE: Final = hash_to_scalar(DOMAIN, b"date")
INDEX: Final = hash_to_scalar(DOMAIN, b"index")


class Parameters:
    """gamma_0 to gamma_3, delta, the tickets of a book, and their digest (64 bytes). `parameters` keeps them."""

    def __init__(self, tickets: int) -> None:
        """Raises `EncodingError` unless a book has 1 to 255 tickets."""
        if not 1 <= tickets <= MAX_TICKETS:
            raise EncodingError(f"a book of {tickets} tickets: it takes 1 to {MAX_TICKETS}")
        self.tickets = tickets
        self.gammas: tuple[Base[G1], ...] = tuple(
            Base(hash_to_g1(DOMAIN, b"gamma", bytes([i])), table=True) for i in range(ATTRIBUTES)
        )
        self.delta: Base[G1] = Base(hash_to_g1(DOMAIN, b"delta"), table=True)
        bases: list[Base[Any]] = [G1_BASE, G2_BASE, *self.gammas, self.delta]
        self.digest = sha512(framed([DOMAIN, bytes([tickets]), *(base.encoded for base in bases)])).digest()


@lru_cache(maxsize=16)
def parameters(tickets: int = TICKETS) -> Parameters:
    """The parameters for books of so many tickets, made once. Raises `EncodingError`."""
    return Parameters(tickets)
