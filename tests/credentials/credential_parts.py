"""What the tests of credentials are made of: constants, and the steps to a credential, a book and helpers."""

import random
from dataclasses import dataclass, replace

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import Pending, unblind
from nymtw.credentials.curve import random_scalar, scalar

THRESHOLD, ISSUERS = 2, 3
VALUE, EXPIRY = 5, 1000
TICKETS = 3
DAY, BOOK_EXPIRY, BOOK_TYPE = 41, 42, 7
CONTEXT = coconut.Context(b"nymtw-test", b"provider 1's account", b"nonce 1")
INFO = ecash.PaymentInfo(b"r" * 32, 1_700_000_000, b"n" * 16)
PARAMETERS = coconut.parameters(2, 2)
ECASH = ecash.parameters(TICKETS)


def drawn(name):
    """Randomness of this name."""
    return random.Random(f"credentials {name}")


@dataclass
class Issued:
    """A credential with all that was said on the way to it."""

    request: coconut.Request
    pending: Pending
    answers: list
    credential: coconut.Credential


def issue_credential(dealt, name, private=None, public=None) -> Issued:
    """Ask for a credential and get it, from the first issuers."""
    source = drawn(name)
    private = private or [random_scalar(source), random_scalar(source)]
    public = public or [scalar(VALUE), scalar(EXPIRY)]
    asked, pending = coconut.request(PARAMETERS, private, public, b"account", source)
    answers = [coconut.blind_sign(PARAMETERS, secret, asked, b"account") for secret in dealt.secrets[:THRESHOLD]]
    shares = [unblind(issuer, pending, answer) for issuer, answer in zip(dealt.issuers, answers, strict=False)]
    return Issued(asked, pending, answers, coconut.credential(pending, shares, THRESHOLD))


def withdraw_book(dealt, owner, name, expiry=BOOK_EXPIRY, kind=BOOK_TYPE, random=None):
    """The request for a book, and the book."""
    asked, pending = ecash.withdraw(ECASH, owner, expiry, kind, b"deposit", random or drawn(name))
    answers = [ecash.issue(ECASH, secret, asked, b"deposit") for secret in dealt.secrets[:THRESHOLD]]
    shares = [unblind(issuer, pending, answer) for issuer, answer in zip(dealt.issuers, answers, strict=False)]
    return asked, ecash.ticket_book(pending, shares, THRESHOLD)


def signed_helpers(dealt, subject):
    shares = [ecash.sign_helpers(secret, subject) for secret in dealt.secrets[:THRESHOLD]]
    signatures, liars = ecash.aggregate_helpers(dealt.issuers, subject, shares, drawn("helpers"))
    assert not liars
    return signatures


def other(info: ecash.PaymentInfo) -> ecash.PaymentInfo:
    """Another payment."""
    return replace(info, nonce=b"m" * 16)
