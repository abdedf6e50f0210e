"""Keys without a dealer, and what happens when one of the dealers lies."""

from dataclasses import replace
from itertools import combinations

import pytest
from credential_parts import drawn
from credential_refusals import assert_refused

from nymtw.credentials import complaints, dkg
from nymtw.credentials.complaints import Complaint, Judgement, complain, resolve
from nymtw.credentials.curve import G1_BASE, G2_BASE, Base, Scalar, encode
from nymtw.credentials.dkg import (
    Dealing,
    TransportSecret,
    check_dealing,
    deal_to,
    derive_public,
    derive_secret,
    open_shares,
)
from nymtw.credentials.keys import combine
from nymtw.credentials.proofs import Proof
from nymtw.errors import CredentialFault, EncodingError

ROUND = b"chain, epoch 1"
ISSUERS, THRESHOLD, ATTRIBUTES = 3, 2, 1


@pytest.fixture(scope="module")
def secrets():
    return [TransportSecret.generate(drawn(f"transport {index}")) for index in range(ISSUERS)]


@pytest.fixture(scope="module")
def recipients(secrets):
    return [secret.public() for secret in secrets]


@pytest.fixture(scope="module")
def dealings(recipients):
    return {
        index: deal_to(recipients, index, THRESHOLD, ATTRIBUTES, ROUND, drawn(f"dealer {index}"))
        for index in range(1, ISSUERS + 1)
    }


def check(dealing, recipients):
    check_dealing(dealing, recipients, THRESHOLD, ATTRIBUTES, ROUND)


def test_everybody_gets_a_share_of_one_key(secrets, recipients, dealings):
    for dealing in dealings.values():
        check(dealing, recipients)
    issuers, key = derive_public(dealings, ISSUERS)
    for index in range(1, ISSUERS + 1):
        shares = [open_shares(dealing, index, secrets[index - 1], ROUND) for dealing in dealings.values()]
        secret = derive_secret(index, THRESHOLD, shares)
        assert secret.public() == issuers[index - 1]
    for chosen in combinations(issuers, THRESHOLD):
        assert combine(chosen) == key
    key.check_consistent(drawn("consistent"))


def test_a_dealer_who_is_out_leaves_a_key_of_the_rest(secrets, recipients, dealings):
    left = {index: dealing for index, dealing in dealings.items() if index != 2}
    issuers, key = derive_public(left, ISSUERS)
    secret = derive_secret(2, THRESHOLD, [open_shares(dealing, 2, secrets[1], ROUND) for dealing in left.values()])
    assert secret.public() == issuers[1]
    assert key != derive_public(dealings, ISSUERS)[1]
    assert_refused(CredentialFault.TOO_FEW, derive_public, {1: dealings[1]}, ISSUERS)
    assert_refused(CredentialFault.TOO_FEW, derive_public, {}, ISSUERS)
    assert_refused(CredentialFault.TOO_FEW, derive_secret, 2, THRESHOLD, [])


def test_dealings_of_another_form_round_or_circle_are_refused(recipients, dealings):
    dealing = dealings[1]
    fault = CredentialFault.WRONG_COUNT
    assert assert_refused(fault, check_dealing, dealing, recipients, THRESHOLD + 1, ATTRIBUTES, ROUND) == 1
    assert_refused(fault, check_dealing, dealing, recipients, THRESHOLD, ATTRIBUTES + 1, ROUND)
    assert_refused(fault, check_dealing, dealing, recipients[:2], THRESHOLD, ATTRIBUTES, ROUND)
    dealt = dealing.dealt
    assert_refused(fault, check, replace(dealing, dealt=replace(dealt, g1=((dealt.g1[0][0],),))), recipients)
    assert_refused(fault, check, replace(dealing, dealt=replace(dealt, dealer=9)), recipients)
    proof = CredentialFault.BAD_PROOF
    assert_refused(proof, check_dealing, dealing, recipients, THRESHOLD, ATTRIBUTES, b"another round")
    assert_refused(proof, check, dealing, recipients[::-1])
    assert_refused(proof, check, replace(dealing, dealt=replace(dealt, sealed=dealt.sealed[::-1])), recipients)
    assert_refused(proof, check, replace(dealing, proof=Proof(dealing.proof.challenge, ())), recipients)


def test_numbers_that_cannot_be_are_refused(recipients, source):
    for dealer, threshold, attributes in ((0, 2, 1), (4, 2, 1), (1, 0, 1), (1, 4, 1), (1, 2, 0), (1, 2, 33)):
        with pytest.raises(EncodingError):
            deal_to(recipients, dealer, threshold, attributes, ROUND, source)


# ---- lies


def lying(recipients, source, monkeypatch, victim=2):
    """A dealing whose shares for the victim are not those that were committed to."""
    strong = dkg.evaluate

    def off(polynomial, index):
        return strong(polynomial, index) + Scalar(index == victim)

    with monkeypatch.context() as patched:
        patched.setattr(dkg, "evaluate", off)
        return deal_to(recipients, 1, THRESHOLD, ATTRIBUTES, ROUND, source)


def test_a_dealer_of_wrong_shares_is_convicted(secrets, recipients, dealings, source, monkeypatch):
    dealing = lying(recipients, source, monkeypatch)
    check(dealing, recipients)
    assert len(open_shares(dealing, 1, secrets[0], ROUND)) == ATTRIBUTES + 1
    assert assert_refused(CredentialFault.BAD_DEALING, open_shares, dealing, 2, secrets[1], ROUND) == 1
    complaint = Complaint.from_bytes(complain(dealing, 2, secrets[1], ROUND, source).to_bytes())
    assert resolve(complaint, dealing, recipients, ROUND) is Judgement.DEALER
    # Who does not compare them holds a share of no key.
    monkeypatch.setattr(dkg, "committed", lambda row, index: EqualsAll())
    spoilt = [open_shares(each, 2, secrets[1], ROUND) for each in (dealing, dealings[2], dealings[3])]
    monkeypatch.undo()
    issuers, _ = derive_public({**dealings, 1: dealing}, ISSUERS)
    assert derive_secret(2, THRESHOLD, spoilt).public() != issuers[1]


class EqualsAll:
    """A commitment that every share fits."""

    def __eq__(self, other):
        return True

    __hash__ = None


def test_a_dealer_of_unreadable_shares_is_convicted(secrets, recipients, source, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(dkg, "sealing_key", lambda *_: bytes(32))
        noise = deal_to(recipients, 1, THRESHOLD, ATTRIBUTES, ROUND, source)
    check(noise, recipients)
    complaint = complain(noise, 2, secrets[1], ROUND, source)
    assert resolve(complaint, noise, recipients, ROUND) is Judgement.DEALER


def test_who_complains_for_nothing_is_convicted(secrets, recipients, dealings, source):
    complaint = complain(dealings[1], 2, secrets[1], ROUND, source)
    assert resolve(complaint, dealings[1], recipients, ROUND) is Judgement.COMPLAINER


def test_a_complaint_that_shows_something_else_convicts_nobody(secrets, recipients, dealings, source, monkeypatch):
    """Neither the dealer, by showing another point than e K, nor somebody else in the complainer's name."""
    honest = complain(dealings[1], 2, secrets[1], ROUND, source)
    framing = replace(honest, shared=honest.shared + G1_BASE.point)
    fault = CredentialFault.BAD_COMPLAINT
    assert_refused(fault, resolve, framing, dealings[1], recipients, ROUND)
    assert_refused(fault, resolve, complain(dealings[1], 2, secrets[0], ROUND, source), dealings[1], recipients, ROUND)
    assert_refused(fault, resolve, replace(honest, index=3), dealings[1], recipients, ROUND)
    assert_refused(fault, resolve, replace(honest, index=9), dealings[1], recipients, ROUND)
    assert_refused(fault, resolve, honest, dealings[2], recipients, ROUND)
    assert_refused(fault, resolve, honest, dealings[1], recipients, b"another round")
    monkeypatch.setattr(complaints, "holds", lambda *_: True)
    assert resolve(framing, dealings[1], recipients, ROUND) is Judgement.DEALER  # an honest one


def test_commitments_in_both_groups_hide_the_same(recipients, source, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(dkg, "G1_BASE", Shifted())
        attack = deal_to(recipients, 1, THRESHOLD, ATTRIBUTES, ROUND, source)
    assert assert_refused(CredentialFault.BAD_DEALING, check, attack, recipients) == 1
    monkeypatch.setattr(dkg, "pairings_cancel", lambda _: True)
    check(attack, recipients)


class Shifted(Base):
    """g1 that commits to the second coefficient of y_1 by one more; it is not in the proof, which holds."""

    def __init__(self):
        super().__init__(G1_BASE.point)
        self.times = 0

    def __mul__(self, factor):
        self.times += 1
        return super().__mul__(factor + Scalar(self.times == 3))  # first K, then the two coefficients of y_1


def rogue(recipients, dealings, source):
    """The last dealer subtracts what the others dealt, so that the key is its own."""
    own = deal_to(recipients, 3, THRESHOLD, ATTRIBUTES, ROUND, source)
    others = [dealings[1].dealt, dealings[2].dealt]

    def less(mine, theirs):
        return tuple(
            tuple(point - theirs[0][j][k] - theirs[1][j][k] for k, point in enumerate(row))
            for j, row in enumerate(mine)
        )

    dealt = replace(
        own.dealt,
        g2=less(own.dealt.g2, [each.g2 for each in others]),
        g1=less(own.dealt.g1, [each.g1 for each in others]),
    )
    return own, Dealing(dealt, own.proof)


def test_the_last_dealer_cannot_choose_the_key(recipients, dealings, source, monkeypatch):
    own, attack = rogue(recipients, dealings, source)
    assert assert_refused(CredentialFault.BAD_PROOF, check, attack, recipients) == 3
    monkeypatch.setattr(dkg, "holds", lambda *_: True)
    check(attack, recipients)
    _, key = derive_public({1: dealings[1], 2: dealings[2], 3: attack}, ISSUERS)
    assert key.alpha == own.dealt.g2[0][0]  # only the last dealer's x is in it


def test_a_copied_key_opens_no_shares_of_another_dealer(secrets, recipients, dealings, source, monkeypatch):
    """With K copied from dealer 1, a complaint about the copy would show what opens dealer 1's shares."""
    own = deal_to(recipients, 3, THRESHOLD, ATTRIBUTES, ROUND, source)
    copied = Dealing(replace(own.dealt, ephemeral=dealings[1].dealt.ephemeral), own.proof)
    assert assert_refused(CredentialFault.BAD_PROOF, check, copied, recipients) == 3
    monkeypatch.setattr(dkg, "holds", lambda *_: True)
    check(copied, recipients)
    shown = complain(copied, 2, secrets[1], ROUND, source).shared
    key = dkg.sealing_key(1, 2, dealings[1].dealt.ephemeral, recipients[1], shown)
    opened = dkg.shares_under(dealings[1].dealt, 2, key, ROUND)
    assert opened == open_shares(dealings[1], 2, secrets[1], ROUND)


def test_keys_that_cancel_out_are_refused(recipients, dealings):
    dealt = dealings[1].dealt
    negative = replace(
        dealt,
        g2=tuple(tuple(-point for point in row) for row in dealt.g2),
        g1=tuple(tuple(-point for point in row) for row in dealt.g1),
    )
    both = {1: dealings[1], 2: replace(dealings[2], dealt=negative)}
    assert_refused(CredentialFault.BAD_KEY, derive_public, both, ISSUERS)


def test_a_dealing_names_its_length():
    """docs/credentials.md: 53 + 96 (q+1) t + 48 q t + (48 + 32 q) n + 32 (q+3) bytes."""
    q, t, n = 2, 2, 3
    keys = [TransportSecret(Scalar(number)).public() for number in range(2, 2 + n)]
    dealing = deal_to(keys, 1, t, q, ROUND, drawn("length"))
    assert len(dealing.to_bytes()) == 53 + 96 * (q + 1) * t + 48 * q * t + (48 + 32 * q) * n + 32 * (q + 3)
    assert dealing.dealt.attributes == q
    assert encode(G2_BASE.point) not in dealing.to_bytes()
