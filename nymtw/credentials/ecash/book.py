"""A ticket book in the hands of its owner, and paying with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from nymtw.credentials.blind import Pending, Share, Signature, aggregate
from nymtw.credentials.curve import (
    G1_BASE,
    G2_BASE,
    ONE,
    SYSTEM_RANDOM,
    ZERO,
    Scalar,
    add,
    random_scalar,
)
from nymtw.credentials.ecash.bases import MAX_TICKETS, Parameters
from nymtw.credentials.ecash.helpers import Dates, HelperSignatures, Indices, signature_of
from nymtw.credentials.ecash.payments import (
    Paid,
    Payment,
    PaymentInfo,
    Ticket,
    payment_statement,
    ticket_challenge,
)
from nymtw.credentials.keys import VerificationKey
from nymtw.credentials.proofs import prove
from nymtw.credentials.wire import Kind, Reader, byte, integer, pack
from nymtw.errors import CredentialFault, CredentialRejected


@dataclass(frozen=True)
class TicketBook:
    """The signature of the threshold, sk_user, the seed v, expiry, type, and how many tickets are used. 167 bytes.

    A secret of its owner. Keep what `pay` gives back before the payment leaves: paying twice with one ticket tells who
    did.
    """

    signature: Signature
    owner: Scalar
    seed: Scalar
    expiry: int
    type: int
    used: int = 0

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        public = integer(self.expiry, 4) + byte(self.type) + byte(self.used)
        return pack(Kind.TICKET_BOOK, self.signature.points, (self.owner, self.seed), public)

    @classmethod
    def from_bytes(cls, data: bytes) -> "TicketBook":
        """Raises `EncodingError`."""
        reader = Reader(data, Kind.TICKET_BOOK)
        book = cls(
            Signature.read(reader),
            reader.scalar(),
            reader.scalar(),
            reader.integer(4),
            reader.integer(1),
            reader.count(0, MAX_TICKETS),
        )
        reader.end()
        return book

    def __repr__(self) -> str:
        return f"<TicketBook, {self.used} used>"


def ticket_book(pending: Pending, shares: Sequence[Share], threshold: int) -> TicketBook:
    """The book of a threshold's shares. Raises `CredentialRejected` (too-few, mixed)."""
    owner, seed, expiry, kind = pending.attributes
    return TicketBook(aggregate(shares, threshold), owner, seed, int(expiry), int(kind))


@dataclass(frozen=True)
class Helpers:
    """The threshold's signatures on the indices of a book's tickets and on the days of its validity."""

    indices: HelperSignatures
    dates: HelperSignatures


def pay(
    parameters: Parameters,
    key: VerificationKey,
    book: TicketBook,
    tickets: int,
    helpers: Helpers,
    info: PaymentInfo,
    day: int,
    random: Random = SYSTEM_RANDOM,
) -> tuple[Payment, TicketBook]:
    """Pay with the next `tickets` of the book; returns the payment and the book without them.

    Raises `CredentialRejected`: book-used-up where it has not so many left, mixed where the helpers are not for this
    book, or its expiry and `day`.
    """
    if tickets < 1 or book.used + tickets > parameters.tickets:
        raise CredentialRejected(CredentialFault.BOOK_USED_UP)
    numbers = range(book.used, book.used + tickets)
    payment = pay_with(parameters, key, book, numbers, helpers, info, day, random)
    return payment, replace(book, used=book.used + tickets)


def pay_with(
    parameters: Parameters,
    key: VerificationKey,
    book: TicketBook,
    numbers: Sequence[int],
    helpers: Helpers,
    info: PaymentInfo,
    day: int,
    random: Random = SYSTEM_RANDOM,
) -> Payment:
    """Pay with the tickets of these numbers, whether they are used or not: `pay` is for owners who keep count.

    Draws r' and r of the book, those of the date, the opening of C, for each ticket r' and r and the opening of A, then
    what the proof draws. Raises `CredentialRejected` (mixed).
    """
    date = date_signature(book, helpers, day, parameters)
    secrets: dict[str, Scalar] = {"owner": book.owner, "v": book.seed, "expiry": Scalar(book.expiry)}
    signature, secrets["r"] = rerandomised(book.signature, random)
    signature_date, secrets["r date"] = rerandomised(date, random)
    secrets["o"] = random_scalar(random)
    made = [
        _ticket(parameters, key, place, number, helpers, ticket_challenge(info, place), secrets, random)
        for place, number in enumerate(numbers)
    ]
    attributes = (book.owner, book.seed, secrets["expiry"])
    paid = Paid(
        add([key.alpha, key.part(0, attributes), G2_BASE * secrets["r"]]),
        signature,
        add([key.alpha, key.part(0, attributes[2:]), G2_BASE * secrets["r date"]]),
        signature_date,
        G1_BASE * secrets["o"] + parameters.gammas[1] * book.seed,
        book.type,
        tuple(made),
    )
    return Payment(paid, prove(payment_statement(parameters, key, paid, info), secrets, random))


def date_signature(book: TicketBook, helpers: Helpers, day: int, parameters: Parameters) -> Signature:
    """The helper signature for the book's expiry and this day. Raises `CredentialRejected` (mixed)."""
    dates, indices = helpers.dates.subject, helpers.indices.subject
    fitting = isinstance(dates, Dates) and dates.expiry == book.expiry and dates.first <= day <= dates.expiry
    if not fitting or not isinstance(dates, Dates) or indices != Indices(parameters.tickets):
        raise CredentialRejected(CredentialFault.MIXED)
    return signature_of(helpers.dates, day - dates.first)


def rerandomised(signature: Signature, random: Random) -> tuple[Signature, Scalar]:
    """Another signature on the same attributes with its second half hidden by r, and r: (r' h, r' s + r r' h)."""
    randomised = signature.randomised(random_scalar(random))
    r = random_scalar(random)
    return Signature(randomised.base, randomised.value + randomised.base * r), r


def _ticket(
    parameters: Parameters,
    key: VerificationKey,
    place: int,
    number: int,
    helpers: Helpers,
    challenge: Scalar,
    secrets: dict[str, Scalar],
    random: Random,
) -> Ticket:
    """The ticket of this number at its place in the payment; its secrets are added to `secrets`."""
    index = Scalar(number)
    denominator = secrets["v"] + index + ONE
    if denominator == ZERO:
        raise CredentialRejected(CredentialFault.BOOK_USED_UP)  # one seed in 2^255 has a ticket without a serial
    mu = ONE / denominator
    signature, r = rerandomised(signature_of(helpers.indices, number), random)
    opening = random_scalar(random)
    secrets |= {
        f"r {place}": r,
        f"index {place}": index,
        f"o {place}": opening,
        f"mu {place}": mu,
        f"o mu {place}": -(mu * (secrets["o"] + opening)),
    }
    return Ticket(
        add([key.alpha, key.part(0, [index]), G2_BASE * r]),
        signature,
        parameters.delta * mu,
        G1_BASE * (secrets["owner"] + challenge * mu),
        G1_BASE * opening + parameters.gammas[1] * index,
    )
