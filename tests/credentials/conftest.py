"""Keys and credentials that several tests look at; every one is made once, from one seed."""

import pytest
from credential_parts import (
    BOOK_EXPIRY,
    CONTEXT,
    DAY,
    ECASH,
    INFO,
    ISSUERS,
    PARAMETERS,
    THRESHOLD,
    TICKETS,
    Issued,
    drawn,
    issue_credential,
    signed_helpers,
    withdraw_book,
)

from nymtw.credentials import coconut, ecash
from nymtw.credentials.curve import Scalar, random_scalar
from nymtw.credentials.keys import Dealt, deal


@pytest.fixture
def source(request):
    """Randomness that the test's name settles."""
    return drawn(request.node.name)


@pytest.fixture(scope="session")
def dealt() -> Dealt:
    """A key of four attributes, two of three."""
    return deal(4, ISSUERS, THRESHOLD, drawn("deal"))


@pytest.fixture(scope="session")
def issued(dealt) -> Issued:
    """A credential of value 5 that expires in epoch 1000."""
    return issue_credential(dealt, "credential")


@pytest.fixture(scope="session")
def credential(issued):
    return issued.credential


@pytest.fixture(scope="session")
def shown(dealt, credential):
    """It, shown in CONTEXT."""
    return coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, drawn("show"))


@pytest.fixture(scope="session")
def owner() -> Scalar:
    return random_scalar(drawn("owner"))


@pytest.fixture(scope="session")
def withdrawn(dealt, owner):
    return withdraw_book(dealt, owner, "book")


@pytest.fixture(scope="session")
def book(withdrawn) -> ecash.TicketBook:
    """A book of three tickets."""
    return withdrawn[1]


@pytest.fixture(scope="session")
def helpers(dealt) -> ecash.Helpers:
    """The issuers' signatures on three indices, and on the days 41 and 42."""
    return ecash.Helpers(
        signed_helpers(dealt, ecash.Indices(TICKETS)), signed_helpers(dealt, ecash.Dates(BOOK_EXPIRY, DAY))
    )


@pytest.fixture(scope="session")
def payment(dealt, book, helpers) -> ecash.Payment:
    """A payment with the first ticket."""
    return ecash.pay(ECASH, dealt.key, book, 1, helpers, INFO, DAY, drawn("payment"))[0]
