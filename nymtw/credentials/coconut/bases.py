"""The public bases of Coconut for so many private and public attributes: hashed, so nobody knows how they relate."""

from functools import lru_cache
from hashlib import sha512
from typing import Any, Final

from nymtw.credentials.curve import G1_BASE, G2_BASE, Base, framed, hash_to_g1
from nymtw.credentials.keys import MAX_ATTRIBUTES
from nymtw.errors import EncodingError

_DOMAIN: Final = b"NYMTW-CREDENTIALS-V1 coconut"


class Parameters:
    """h_1 to h_q, the base of nullifiers, and their digest (64 bytes). `parameters` keeps them.

    How many of the attributes are private is part of them: else a holder could show a value as a private one, and have
    the next be taken for it.
    """

    def __init__(self, private: int, public: int) -> None:
        """Raises `EncodingError` unless at least one attribute is private and there are at most 32."""
        if private < 1 or public < 0 or private + public > MAX_ATTRIBUTES:
            raise EncodingError(
                f"{private} private and {public} public attributes: it takes 1 to {MAX_ATTRIBUTES} in all"
            )
        self.private = private
        self.public = public
        self.attributes = private + public
        self.generators = tuple(
            Base(hash_to_g1(_DOMAIN, b"attribute", bytes([i])), table=True) for i in range(1, self.attributes + 1)
        )
        self.nullifier_base = Base(hash_to_g1(_DOMAIN, b"zeta"), table=True)
        bases: list[Base[Any]] = [G1_BASE, G2_BASE, *self.generators, self.nullifier_base]
        parts = [_DOMAIN, bytes([private, public]), *(base.encoded for base in bases)]
        self.digest = sha512(framed(parts)).digest()


@lru_cache(maxsize=16)
def parameters(private: int, public: int) -> Parameters:
    """The parameters for so many attributes, made once. Raises `EncodingError`."""
    return Parameters(private, public)
