"""Sharing and combining keys."""

from dataclasses import replace
from itertools import combinations

import pytest
from credential_parts import ISSUERS, THRESHOLD, drawn
from credential_refusals import assert_refused

from nymtw.credentials.curve import G1_BASE, ONE, Scalar, random_scalar
from nymtw.credentials.keys import IssuerKey, VerificationKey, check_one_sharing, combine, deal
from nymtw.credentials.shamir import evaluate, interpolate, lagrange_at_zero, powers, random_polynomial
from nymtw.errors import CredentialFault, EncodingError


def test_any_points_above_the_degree_give_the_secret(source):
    polynomial = random_polynomial(3, source)
    for chosen in combinations((1, 2, 5, 9), 3):
        weights = lagrange_at_zero(chosen)
        total = Scalar(0)
        for index in chosen:
            total = total + weights[index] * evaluate(polynomial, index)
        assert total == polynomial[0]
    assert interpolate({i: G1_BASE * evaluate(polynomial, i) for i in (1, 4, 7)}) == G1_BASE * polynomial[0]
    assert interpolate({i: G1_BASE * evaluate(polynomial, i) for i in (1, 4)}) != G1_BASE * polynomial[0]
    assert powers(3, 4) == [Scalar(number) for number in (1, 3, 9, 27)]


@pytest.mark.parametrize("indices", [(), (1, 1), (0, 1), (-1, 2)])
def test_indices_that_cannot_be_are_refused(indices):
    with pytest.raises(ValueError, match="distinct and above 0"):
        lagrange_at_zero(indices)


def test_any_threshold_of_keys_combines_to_one(dealt):
    for chosen in combinations(dealt.issuers, THRESHOLD):
        assert combine(chosen) == dealt.key
    assert combine(dealt.issuers) == dealt.key
    assert [secret.public() for secret in dealt.secrets] == list(dealt.issuers)
    check_one_sharing(dealt.issuers)
    for issuer in (*dealt.issuers, IssuerKey(1, 1, dealt.key)):
        issuer.key.check_consistent(drawn("consistent"))


def test_keys_that_do_not_belong_together_are_refused(dealt, source):
    other = deal(4, ISSUERS, THRESHOLD, source)
    narrow = deal(1, ISSUERS, THRESHOLD, source)
    assert_refused(CredentialFault.TOO_FEW, combine, [])
    assert_refused(CredentialFault.TOO_FEW, combine, dealt.issuers[:1] * 3)
    assert_refused(CredentialFault.MIXED, combine, [dealt.issuers[0], other.issuers[0]])
    assert_refused(CredentialFault.MIXED, combine, [dealt.issuers[0], narrow.issuers[1]])
    assert_refused(CredentialFault.MIXED, combine, [dealt.issuers[0], replace(dealt.issuers[1], threshold=1)])
    assert_refused(CredentialFault.MIXED, check_one_sharing, [*dealt.issuers[:2], other.issuers[2]])


def test_a_key_whose_halves_do_not_fit_is_refused(dealt, source):
    gammas = (G1_BASE * random_scalar(source), *dealt.key.gammas[1:])
    assert_refused(CredentialFault.BAD_KEY, replace(dealt.key, gammas=gammas).check_consistent, source)
    swapped = (dealt.key.gammas[1], dealt.key.gammas[0], *dealt.key.gammas[2:])
    assert_refused(CredentialFault.BAD_KEY, replace(dealt.key, gammas=swapped).check_consistent, source)
    with pytest.raises(EncodingError):
        VerificationKey(dealt.key.alpha, dealt.key.betas, gammas[:1])


def test_parts_of_a_message_are_the_same_with_tables(dealt):
    for key in (dealt.key, dealt.key.with_tables()):
        assert key.part(1, [ONE, Scalar(7)]) == dealt.key.betas[1] + dealt.key.betas[2] * Scalar(7)
        with pytest.raises(ValueError, match="zip"):
            key.part(3, [ONE, ONE])
        assert key.constant(3, Scalar(9)) == key.part(3, [Scalar(9)]) == key.constant(3, Scalar(9))


@pytest.mark.parametrize(
    ("attributes", "issuers", "threshold"), [(0, 1, 1), (33, 1, 1), (1, 0, 0), (1, 2, 3), (1, 256, 2)]
)
def test_numbers_that_cannot_be_dealt(attributes, issuers, threshold, source):
    with pytest.raises(EncodingError):
        deal(attributes, issuers, threshold, source)
