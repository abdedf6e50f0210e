"""Ticket books from withdrawal to payment, and the attacks: each succeeds against a weakened copy, not against ours."""

from dataclasses import replace

import pytest
from credential_parts import (
    BOOK_EXPIRY,
    BOOK_TYPE,
    DAY,
    ECASH,
    INFO,
    THRESHOLD,
    TICKETS,
    drawn,
    other,
    signed_helpers,
    withdraw_book,
)
from credential_refusals import assert_refused

from nymtw.credentials import curve, ecash, proofs
from nymtw.credentials.blind import Signature, check_answer
from nymtw.credentials.curve import G1_BASE, G2_BASE, ONE, ZERO, Scalar, encode, identity_of, random_scalar
from nymtw.credentials.ecash import book as book_module
from nymtw.credentials.ecash import payments, withdrawal
from nymtw.credentials.ecash.bases import DATE, INDEX, Parameters
from nymtw.credentials.ecash.payments import Paid, Payment, PaymentInfo, Ticket
from nymtw.credentials.keys import deal
from nymtw.credentials.proofs import Proof, Term
from nymtw.errors import CredentialFault, CredentialRejected, EncodingError


def verify(dealt, payment, info=INFO, day=DAY):
    ecash.verify_payment(ECASH, dealt.key, payment, info, day, drawn("verify"))


def pay(dealt, book, helpers, source, *, numbers=(0,), info=INFO, day=DAY):
    return ecash.pay_with(ECASH, dealt.key, book, numbers, helpers, info, day, source)


# ---- from withdrawal to payment


def test_a_payment_is_accepted(dealt, payment):
    verify(dealt, payment)
    assert len(payment.to_bytes()) == 1155
    assert payment.paid.type == BOOK_TYPE


def test_a_book_is_used_up_ticket_by_ticket(dealt, book, helpers, source):
    first, rest = ecash.pay(ECASH, dealt.key, book, 2, helpers, INFO, DAY, source)
    assert len(first.to_bytes()) == 1651
    verify(dealt, first)
    second, empty = ecash.pay(ECASH, dealt.key, rest, 1, helpers, other(INFO), BOOK_EXPIRY, source)
    verify(dealt, second, other(INFO), BOOK_EXPIRY)
    assert len({*first.serials, *second.serials}) == 3
    assert (rest.used, empty.used) == (2, 3)
    for count, left in ((1, empty), (2, rest), (0, book), (TICKETS + 1, book)):
        assert_refused(
            CredentialFault.BOOK_USED_UP, ecash.pay, ECASH, dealt.key, left, count, helpers, INFO, DAY, source
        )


def test_the_same_ticket_has_the_same_serial_and_nothing_else_in_common(dealt, book, helpers, payment, source):
    again = pay(dealt, book, helpers, source, info=other(INFO)).paid
    before = payment.paid
    assert again.tickets[0].serial == before.tickets[0].serial
    assert again.tickets[0].tag != before.tickets[0].tag
    assert not {encode(point) for point in points_of(again)} & {encode(point) for point in points_of(before)}


def points_of(paid):
    ticket = paid.tickets[0]
    return [
        paid.kappa, *paid.signature.points, paid.kappa_date, *paid.signature_date.points, paid.seed,
        ticket.kappa, *ticket.signature.points, ticket.index,
    ]  # fmt: skip


def test_withdrawals_that_were_altered_are_refused(dealt, withdrawn):
    asked = withdrawn[0]
    moved = G1_BASE.point
    for altered in (
        replace(asked, commitment=moved),
        replace(asked, parts=(moved, asked.parts[1])),
        replace(asked, parts=asked.parts[::-1]),
        replace(asked, owner=moved),
        replace(asked, expiry=asked.expiry + 1),
        replace(asked, type=asked.type + 1),
        replace(asked, owner=identity_of(moved)),
    ):
        assert_refused(CredentialFault.BAD_PROOF, ecash.issue, ECASH, dealt.secrets[0], altered, b"deposit")
    assert_refused(CredentialFault.BAD_PROOF, ecash.issue, ECASH, dealt.secrets[0], asked, b"another deposit")
    short = replace(asked, parts=asked.parts[:1])
    assert_refused(CredentialFault.WRONG_COUNT, ecash.check_withdrawal, ECASH, short, b"deposit")
    small = deal(1, 1, 1, drawn("small"))
    assert_refused(CredentialFault.WRONG_COUNT, ecash.issue, ECASH, small.secrets[0], asked, b"deposit")
    assert_refused(CredentialFault.WRONG_COUNT, ecash.sign_helpers, small.secrets[0], ecash.Indices(1))


def test_a_ledger_can_check_answers_without_any_secret(dealt, withdrawn):
    asked = withdrawn[0]
    base = ecash.check_withdrawal(ECASH, asked, b"deposit")
    answer = ecash.issue(ECASH, dealt.secrets[1], asked, b"deposit")
    words = (dealt.issuers[1], base, ecash.signed_parts(asked, base), [Scalar(asked.expiry), Scalar(asked.type)])
    check_answer(*words, answer)
    lie = replace(answer, value=answer.value + G1_BASE.point)
    assert assert_refused(CredentialFault.BAD_SHARE, check_answer, *words, lie) == 2


def test_every_altered_point_of_a_payment_is_refused(dealt, payment):
    paid, ticket = payment.paid, payment.paid.tickets[0]
    g1, g2 = G1_BASE.point, G2_BASE.point
    altered = [
        replace(paid, kappa=g2),
        replace(paid, kappa_date=g2),
        replace(paid, signature=Signature(g1, paid.signature.value)),
        replace(paid, signature=Signature(paid.signature.base, g1)),
        replace(paid, signature_date=Signature(g1, paid.signature_date.value)),
        replace(paid, signature_date=Signature(paid.signature_date.base, g1)),
        replace(paid, seed=g1),
        replace(paid, type=BOOK_TYPE + 1),
    ]
    altered += [
        replace(paid, tickets=(changed,))
        for changed in (
            replace(ticket, kappa=g2),
            replace(ticket, signature=Signature(g1, ticket.signature.value)),
            replace(ticket, signature=Signature(ticket.signature.base, g1)),
            replace(ticket, serial=g1),
            replace(ticket, tag=g1),
            replace(ticket, index=g1),
        )
    ]
    for each in altered:
        assert_refused(CredentialFault.BAD_PROOF, verify, dealt, replace(payment, paid=each))
    for tickets in ((), (ticket,) * 2, (ticket,) * (TICKETS + 1)):
        with pytest.raises(CredentialRejected):
            verify(dealt, replace(payment, paid=replace(paid, tickets=tickets)))


def test_a_payment_is_for_one_receiver_time_and_nonce(dealt, book, helpers, source, monkeypatch):
    def stolen(change):
        verify(dealt, pay(dealt, book, helpers, source), replace(INFO, **change))

    changes = ({"receiver": b"s" * 32}, {"time": INFO.time + 1}, {"nonce": b"o" * 16})
    for change in changes:
        assert_refused(CredentialFault.BAD_PROOF, stolen, change)
    strong = proofs.challenge_of
    monkeypatch.setattr(proofs, "challenge_of", lambda statement, made: strong(replace(statement, context=()), made))
    # R is made of the info too: without the context alone the tag still holds it.
    assert_refused(CredentialFault.BAD_PROOF, stolen, changes[0])
    monkeypatch.setattr(payments, "ticket_challenge", lambda *_: ONE)
    monkeypatch.setattr(book_module, "ticket_challenge", lambda *_: ONE)
    for change in changes:
        stolen(change)


def test_what_cannot_be_encoded_is_refused(source):
    for info in (replace(INFO, receiver=b"short"), replace(INFO, nonce=b""), replace(INFO, time=-1)):
        with pytest.raises(EncodingError):
            info.to_bytes()
    for expiry, kind in ((-1, 0), (2**32, 0), (0, 256)):
        with pytest.raises(EncodingError):
            ecash.withdraw(ECASH, ONE, expiry, kind, b"", source)
    for count in (0, 256):
        with pytest.raises(EncodingError):
            Parameters(count)
    for expiry, first in ((1, 2), (300, 1), (2**32, 2**32)):
        with pytest.raises(EncodingError):
            ecash.Dates(expiry, first)


# ---- double spends


def test_a_double_spender_is_identified(dealt, book, helpers, owner, payment, source):
    twice = pay(dealt, book, helpers, source, numbers=(1, 0), info=other(INFO))
    verify(dealt, twice, other(INFO))
    found = ecash.identify(payment, INFO, twice, other(INFO))
    assert found == ecash.Comparison(ecash.Finding.DOUBLE, encode(G1_BASE * owner))
    assert ecash.identify(twice, other(INFO), payment, INFO) == found
    again = pay(dealt, book, helpers, source)
    assert ecash.identify(payment, INFO, again, INFO) == ecash.Comparison(ecash.Finding.REPLAY)
    later = pay(dealt, book, helpers, source, numbers=(1,), info=other(INFO))
    assert ecash.identify(payment, INFO, later, other(INFO)) == ecash.Comparison(ecash.Finding.APART)


def test_one_ticket_twice_in_one_payment_is_refused(dealt, book, helpers, source):
    assert_refused(CredentialFault.DOUBLED, verify, dealt, pay(dealt, book, helpers, source, numbers=(1, 1)))


def same_seed(dealt, owners, source):
    """Books of two owners who agreed on one seed."""
    return [withdraw_book(dealt, owner, "", random=Agreed(drawn("agreed"), source))[1] for owner in owners]


class Agreed:
    """The first scalar, v_0, is the one that was agreed on."""

    def __init__(self, agreed, source):
        self.sources = [agreed, source]

    def randbytes(self, count):
        return (self.sources.pop(0) if len(self.sources) > 1 else self.sources[0]).randbytes(count)


def test_two_owners_cannot_agree_on_a_seed(dealt, helpers, source, monkeypatch):
    owners = [random_scalar(source) for _ in range(2)]

    def attack():
        infos = (INFO, other(INFO))
        paid = [
            pay(dealt, book, helpers, source, info=info)
            for book, info in zip(same_seed(dealt, owners, source), infos, strict=True)
        ]
        return ecash.identify(paid[0], INFO, paid[1], other(INFO))

    assert attack().finding is ecash.Finding.APART
    monkeypatch.setattr(withdrawal, "seed_offset", lambda _: ZERO)
    found = attack()
    assert found.finding is ecash.Finding.DOUBLE
    assert found.spender not in [encode(G1_BASE * owner) for owner in owners]  # nobody is found


# ---- attacks


def forge(dealt, book, helpers, source, name):
    """A payment one of whose points, the serial or the tag, was solved for after the challenge."""
    place = {"serial 0": 6, "tag 0": 7}[name]
    captured = {}

    def capture(statement, secrets, random):
        captured.update(statement=statement, secrets=dict(secrets))
        return proofs.prove(statement, secrets, random)

    strong, book_module.prove = book_module.prove, capture
    try:
        honest = pay(dealt, book, helpers, source)
    finally:
        book_module.prove = strong
    statement, secrets = captured["statement"], captured["secrets"]
    blinding = {each: random_scalar(source) for each in statement.secrets}
    made = proofs.commitments(statement, blinding)
    committed = G1_BASE * random_scalar(source)
    made[place] = encode(committed)
    challenge = proofs.challenge_of(statement, made)
    responses = {each: blinding[each] - challenge * secrets[each] for each in statement.secrets}
    rest = curve.add([
        term.base * (responses[term.secret] * (term.factor or ONE)) for term in statement.relations[place].terms
    ])  # fmt: skip
    solved = (committed - rest) * (ONE / challenge)
    (ticket,) = honest.paid.tickets
    ticket = replace(ticket, **{name.split()[0]: solved})
    return Payment(replace(honest.paid, tickets=(ticket,)), Proof(challenge, tuple(responses.values())))


@pytest.mark.parametrize("name", ["serial 0", "tag 0"])
def test_serial_and_tag_are_bound(dealt, book, helpers, payment, owner, name, source, monkeypatch):
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, forge(dealt, book, helpers, source, name))
    strong = proofs.challenge_of

    def weak(statement, made):
        kept = tuple(each for each in statement.elements if each[0] != name)
        return strong(replace(statement, elements=kept), made)

    monkeypatch.setattr(proofs, "challenge_of", weak)
    forged = forge(dealt, book, helpers, source, name)
    verify(dealt, forged)
    found = ecash.identify(payment, other(INFO), forged, INFO)
    assert found.spender != encode(G1_BASE * owner)  # spent again, and not found


def beyond(dealt, book, helpers, source, monkeypatch):
    """A payment with ticket L of a book of L, made with the signature on index 0."""
    with monkeypatch.context() as patched:
        patched.setattr(book_module, "signature_of", lambda helpers, _: Signature(*index_zero.points))
        index_zero = ecash.helpers.signature_of(helpers.indices, 0)
        date = ecash.helpers.signature_of(helpers.dates, 0)
        patched.setattr(book_module, "date_signature", lambda *_: date)
        strong = dealt.key.part

        def part(self, first, attributes):  # kappa_k holds index 0
            return strong(first, [ZERO] if len(attributes) == 1 and attributes[0] == Scalar(TICKETS) else attributes)

        patched.setattr(type(dealt.key), "part", part)
        return pay(dealt, book, helpers, source, numbers=(TICKETS,))


def test_there_is_no_ticket_behind_the_last(dealt, book, helpers, source, monkeypatch):
    with pytest.raises(IndexError):
        pay(dealt, book, helpers, source, numbers=(TICKETS,))
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, beyond(dealt, book, helpers, source, monkeypatch))
    strong = payments.ticket_relations
    monkeypatch.setattr(payments, "ticket_relations", lambda *arguments: strong(*arguments)[1:])  # kappa_k is left out
    verify(dealt, beyond(dealt, book, helpers, source, monkeypatch))


def test_a_payment_is_for_its_day(dealt, payment, monkeypatch):
    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, payment, INFO, DAY + 1)
    strong = payments.signatures_of

    def weak(key, paid, day):  # the date's signature is not looked at
        book, _, *tickets = strong(key, paid, day)
        return [book, *tickets]

    monkeypatch.setattr(payments, "signatures_of", weak)
    verify(dealt, payment, INFO, DAY + 1)


def test_a_payment_is_of_its_books_type(dealt, book, helpers, source, monkeypatch):
    costly = replace(book, type=BOOK_TYPE + 1)
    assert_refused(CredentialFault.BAD_SIGNATURE, lambda: verify(dealt, pay(dealt, costly, helpers, source)))
    strong = payments.signatures_of

    def weak(key, paid, day):  # the book's signature is looked at as if the type were not in it
        return strong(key, replace(paid, type=BOOK_TYPE), day)

    monkeypatch.setattr(payments, "signatures_of", weak)
    verify(dealt, pay(dealt, costly, helpers, source))


def test_an_expired_book_cannot_use_the_days_of_another(dealt, book, source, monkeypatch):
    later = ecash.Dates(BOOK_EXPIRY + 10, BOOK_EXPIRY + 1)
    indices = signed_helpers(dealt, ecash.Indices(TICKETS))
    fresh = ecash.Helpers(indices, signed_helpers(dealt, later))
    day = BOOK_EXPIRY + 1
    assert_refused(CredentialFault.MIXED, ecash.pay, ECASH, dealt.key, book, 1, fresh, INFO, day, source)

    def attack():
        lying = replace(book, expiry=later.expiry)
        return pay(dealt, lying, fresh, source, day=day)

    assert_refused(CredentialFault.BAD_SIGNATURE, lambda: verify(dealt, attack(), INFO, day))

    strong = payments.payment_statement

    def weak(parameters, key, paid, info):  # the date may have an expiry of its own
        statement = strong(parameters, key, paid, info)
        book_relation, date, *rest = statement.relations
        own = replace(date, terms=(date.terms[0], Term("expiry date", key.beta_bases[0])))
        return replace(statement, relations=(book_relation, own, *rest))

    monkeypatch.setattr(payments, "payment_statement", weak)
    monkeypatch.setattr(book_module, "payment_statement", weak)

    def two_expiries(statement, secrets, random):
        return proofs.prove(statement, {**secrets, "expiry date": Scalar(later.expiry)}, random)

    date = ecash.helpers.signature_of(fresh.dates, 0)
    monkeypatch.setattr(book_module, "date_signature", lambda *_: date)
    monkeypatch.setattr(book_module, "prove", two_expiries)
    strong_part = dealt.key.part

    def part(self, first, attributes):  # kappa_date holds the later expiry
        alone = len(attributes) == 1 and attributes[0] == Scalar(BOOK_EXPIRY)
        return strong_part(first, [Scalar(later.expiry)] if alone else attributes)

    with monkeypatch.context() as patched:
        patched.setattr(type(dealt.key), "part", part)
        attacking = pay(dealt, book, fresh, source, day=day)
    verify(dealt, attacking, INFO, day)


def test_the_identity_in_all_places_pays_nothing(dealt, source, monkeypatch):
    nothing = identity_of(G1_BASE.point)
    void = Signature(nothing, nothing)

    def attack():
        names = ("r", "owner", "v", "expiry", "r date", "o", "r 0", "index 0", "o 0")
        secrets = {name: random_scalar(source) for name in names}
        mu = secrets["mu 0"] = ONE / (secrets["v"] + secrets["index 0"] + ONE)
        secrets["o mu 0"] = -(mu * (secrets["o"] + secrets["o 0"]))
        alpha, part = dealt.key.alpha, dealt.key.part
        owner, v, expiry, index = (secrets[name] for name in ("owner", "v", "expiry", "index 0"))
        gamma = ECASH.gammas[1]
        ticket = Ticket(
            alpha + part(0, [index]) + G2_BASE * secrets["r 0"],
            void,
            ECASH.delta * mu,
            G1_BASE * (owner + payments.ticket_challenge(INFO, 0) * mu),
            G1_BASE * secrets["o 0"] + gamma * index,
        )
        paid = Paid(
            alpha + part(0, [owner, v, expiry]) + G2_BASE * secrets["r"],
            void,
            alpha + part(0, [expiry]) + G2_BASE * secrets["r date"],
            void,
            G1_BASE * secrets["o"] + gamma * v,
            BOOK_TYPE,
            (ticket,),
        )
        statement = payments.payment_statement(ECASH, dealt.key, paid, INFO)
        forged = Payment(paid, proofs.prove(statement, secrets, source))
        with pytest.raises(EncodingError, match="identity"):
            Payment.from_bytes(forged.to_bytes())
        return forged

    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, attack())
    monkeypatch.setattr(payments, "is_identity", lambda _: False)
    verify(dealt, attack())


def test_two_bad_signatures_cancel_without_weights(dealt, book, helpers, source, monkeypatch):
    strong = book_module.rerandomised
    offs = [G1_BASE.point, -G1_BASE.point, identity_of(G1_BASE.point)]

    def hidden(signature, random):
        made, r = strong(signature, random)
        return Signature(made.base, made.value + offs.pop(0)), r

    with monkeypatch.context() as patched:
        patched.setattr(book_module, "rerandomised", hidden)
        attack = pay(dealt, book, helpers, source)
    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, attack)
    monkeypatch.setattr(payments, "random_weight", lambda _: ONE)
    verify(dealt, attack)


# ---- helpers


def test_helper_signatures_of_any_threshold_are_the_same_and_liars_are_named(dealt, source):
    subject = ecash.Dates(12, 10)
    shares = [ecash.sign_helpers(secret, subject) for secret in dealt.secrets]
    lie = replace(shares[0], values=(shares[0].values[1], shares[0].values[0], *shares[0].values[2:]))
    assert assert_refused(CredentialFault.BAD_SHARE, ecash.check_helpers, dealt.issuers[0].key, lie, source) == 1
    short = replace(shares[0], values=shares[0].values[:2])
    assert_refused(CredentialFault.WRONG_COUNT, ecash.check_helpers, dealt.issuers[0].key, short, source)
    about_another = ecash.sign_helpers(dealt.secrets[1], ecash.Dates(13, 11))
    stranger = replace(shares[0], issuer=99)
    aggregate = ecash.aggregate_helpers
    found, liars = aggregate(dealt.issuers, subject, [stranger, lie, about_another, *shares[1:]], source)
    assert liars == (1, 2)
    assert aggregate(dealt.issuers, subject, shares[:2], source) == (found, ())
    ecash.check_helpers(dealt.key, found, source)
    spoilt = replace(found, values=(found.values[0], found.values[0], found.values[2]))
    assert assert_refused(CredentialFault.BAD_SHARE, ecash.check_helpers, dealt.key, spoilt, source) is None
    assert_refused(CredentialFault.TOO_FEW, aggregate, dealt.issuers, subject, [shares[0], shares[0], lie], source)


def test_a_date_or_an_index_cannot_pass_for_a_book():
    """All three are signed with one key; the type's place tells them apart, and a book's type is a byte."""
    assert int(DATE) > 255
    assert int(INDEX) > 255
    assert DATE != INDEX


def test_helpers_of_other_books_are_refused(dealt, book, helpers, source):
    wrong = (
        ecash.Helpers(signed_helpers(dealt, ecash.Indices(TICKETS - 1)), helpers.dates),
        ecash.Helpers(helpers.indices, signed_helpers(dealt, ecash.Dates(BOOK_EXPIRY + 1, DAY))),
        ecash.Helpers(helpers.dates, helpers.indices),
    )
    for each in wrong:
        assert_refused(CredentialFault.MIXED, ecash.pay, ECASH, dealt.key, book, 1, each, INFO, DAY, source)
    for day in (DAY - 1, BOOK_EXPIRY + 1):
        assert_refused(CredentialFault.MIXED, ecash.pay, ECASH, dealt.key, book, 1, helpers, INFO, day, source)


def test_a_book_is_of_its_threshold(dealt, withdrawn, owner, source):
    asked, _ = withdrawn
    _, pending = ecash.withdraw(ECASH, owner, BOOK_EXPIRY, BOOK_TYPE, b"deposit", drawn("book"))
    answers = {secret.index: ecash.issue(ECASH, secret, asked, b"deposit") for secret in dealt.secrets}
    assert len(answers) == 3
    assert_refused(CredentialFault.TOO_FEW, ecash.ticket_book, pending, [], THRESHOLD)
    assert "Scalar" not in repr(withdrawn[1])


def test_payment_infos_differ_in_every_ticket(source):
    infos = (INFO, other(INFO), PaymentInfo(INFO.receiver, INFO.time + 1, INFO.nonce))
    challenges = {int(payments.ticket_challenge(info, number)) for info in infos for number in range(3)}
    assert len(challenges) == 9
