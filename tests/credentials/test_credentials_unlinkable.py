"""Shows cannot be tied to requests, nor payments to each other, with all secrets of all issuers.

Each game draws one of two and asks every rule that one could think of which it was. Right and wrong have to be about
as many; a copy that leaves the randomness out loses each time.
"""

import pytest
from credential_parts import CONTEXT, DAY, ECASH, INFO, PARAMETERS, drawn, issue_credential, withdraw_book

from nymtw.credentials import blind, coconut, ecash
from nymtw.credentials.curve import Scalar, encode
from nymtw.credentials.ecash.book import pay_with

ROUNDS = 64
# Of 64 fair coins fewer than 14 or more than 50 fall one way with probability 2e-6.
LEAST, MOST = 14, 50


def common(ours, theirs):
    """How many points are the same."""
    return len(set(ours) & set(theirs))


def alike(ours, theirs):
    """How many bits agree where both have bytes."""
    pairs = ((a, b) for one, other in zip(ours, theirs, strict=False) for a, b in zip(one, other, strict=False))
    return sum((a ^ b ^ 0xFF).bit_count() for a, b in pairs)


def sums(ours, theirs):
    """Whether sums of bytes have one parity."""
    return (sum(map(sum, ours)) ^ sum(map(sum, theirs)) ^ 1) & 1


RULES = {"common points": common, "bits alike": alike, "parity": sums}


def wins(rule, games):
    """How often the candidate that scores higher is the right one; a tie is a coin toss of the game's own."""
    right = 0
    for seen, candidates, chosen, coin in games:
        scores = [rule(seen, candidate) for candidate in candidates]
        guess = coin if scores[0] == scores[1] else int(scores[1] > scores[0])
        right += guess == chosen
    return right


def traces(dealt, issued):
    """All that issuers saw of an issuance, and what they can compute from it with all their secrets."""
    points = [issued.request.commitment, *issued.request.parts, issued.pending.base]
    for secret, answer in zip(dealt.secrets, issued.answers, strict=False):
        for exponent in (secret.x, *secret.ys):
            points += [issued.pending.base * exponent, answer.value - issued.pending.base * exponent]
        points.append(answer.value)
    return [encode(point) for point in points]


def seen_of(dealt, shown):
    """All of a show, and what issuers can compute from it."""
    points = [shown.kappa - dealt.key.alpha, shown.kappa, shown.nu, *shown.signature.points, shown.nullifier]
    for secret in dealt.secrets:
        points += [shown.signature.base * exponent for exponent in (secret.x, *secret.ys)]
        points += [shown.signature.value - shown.signature.base * secret.x]
    return [encode(point) for point in points]


def show_games(dealt):
    """Two credentials of the same public attributes; one of them is shown."""
    source = drawn("games")
    issued = [issue_credential(dealt, f"game {number}") for number in range(2)]
    candidates = [traces(dealt, each) for each in issued]
    games = []
    for _ in range(ROUNDS):
        chosen, coin = source.randrange(2), source.randrange(2)
        shown = coconut.show(PARAMETERS, dealt.key, issued[chosen].credential, CONTEXT, source).shown
        games.append((seen_of(dealt, shown), candidates, chosen, coin))
    return games


@pytest.fixture(scope="module")
def fair(dealt):
    return show_games(dealt)


@pytest.mark.parametrize("rule", RULES)
def test_a_show_cannot_be_tied_to_its_request(fair, rule):
    assert LEAST <= wins(RULES[rule], fair) <= MOST


def test_a_show_that_is_not_randomised_is_tied_to_its_request(dealt, monkeypatch):
    monkeypatch.setattr(blind.Signature, "randomised", lambda self, factor: self)
    assert wins(common, show_games(dealt)) == ROUNDS


def pay_games(dealt, owner, helpers):
    """Two books of one owner; a payment with one of them, and one payment with each before."""
    source = drawn("pay games")
    books = [withdraw_book(dealt, owner, f"game {number}")[1] for number in range(2)]

    def paid(book, number):
        payment = pay_with(ECASH, dealt.key, book, [number], helpers, INFO, DAY, source).paid
        (ticket,) = payment.tickets
        points = [
            payment.kappa, payment.kappa - dealt.key.alpha, *payment.signature.points, payment.kappa_date,
            *payment.signature_date.points, payment.seed, ticket.kappa, *ticket.signature.points, ticket.serial,
            ticket.tag, ticket.index,
        ]  # fmt: skip
        return [encode(point) for point in points]

    candidates = [paid(book, 0) for book in books]
    games = []
    for _ in range(ROUNDS // 2):
        chosen, coin = source.randrange(2), source.randrange(2)
        games.append((paid(books[chosen], 1), candidates, chosen, coin))
    return games


def test_payments_of_one_book_cannot_be_tied_together(dealt, owner, helpers):
    games = pay_games(dealt, owner, helpers)
    for rule in RULES.values():
        assert 4 <= wins(rule, games) <= 28  # of 32 fair coins, but for one run in 100,000


def test_payments_that_are_not_randomised_are_tied_together(dealt, owner, helpers, monkeypatch):
    monkeypatch.setattr(ecash.book, "random_scalar", lambda _: Scalar(2))
    monkeypatch.setattr(blind.Signature, "randomised", lambda self, factor: self)
    assert wins(common, pay_games(dealt, owner, helpers)) == ROUNDS // 2
