"""Coconut from request to show, and the attacks on it: each succeeds against a weakened copy, and not against ours."""

from dataclasses import replace
from itertools import combinations

import pytest
from credential_parts import CONTEXT, EXPIRY, PARAMETERS, THRESHOLD, VALUE, drawn, issue_credential
from credential_refusals import assert_refused

from nymtw.credentials import blind, coconut, curve, keys, proofs
from nymtw.credentials.blind import BlindShare, Signature, collect, unblind
from nymtw.credentials.coconut import issuing as request_module
from nymtw.credentials.coconut import showing as show_module
from nymtw.credentials.coconut.bases import Parameters
from nymtw.credentials.coconut.showing import Show, Shown
from nymtw.credentials.curve import G1_BASE, ONE, Base, Scalar, encode, random_scalar, scalar
from nymtw.credentials.keys import deal
from nymtw.credentials.proofs import Proof, Term
from nymtw.errors import CredentialFault, EncodingError


def verify(dealt, shown, context=CONTEXT, parameters=PARAMETERS):
    coconut.verify_show(parameters, dealt.key, shown, context)


# ---- from request to show


@pytest.mark.parametrize("chosen", list(combinations(range(3), THRESHOLD)))
def test_any_threshold_of_issuers_makes_the_same_credential(dealt, issued, chosen):
    answers = [coconut.blind_sign(PARAMETERS, dealt.secrets[i], issued.request, b"account") for i in chosen]
    shares = [unblind(dealt.issuers[i], issued.pending, answer) for i, answer in zip(chosen, answers, strict=True)]
    assert coconut.credential(issued.pending, shares, THRESHOLD) == issued.credential


def test_a_show_is_accepted_and_tells_the_public_attributes(dealt, credential, shown):
    verify(dealt, shown)
    assert shown.public == (scalar(VALUE), scalar(EXPIRY))
    assert len(shown.to_bytes()) == 483
    again = coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, drawn("again"))
    assert again.nullifier == shown.nullifier
    assert again.to_bytes() != shown.to_bytes()


def test_a_key_with_tables_does_the_same(dealt, credential, shown):
    tabled = dealt.key.with_tables()
    again = coconut.show(PARAMETERS, tabled, credential, CONTEXT, drawn("show"))
    assert again == shown
    coconut.verify_show(PARAMETERS, tabled, shown, CONTEXT)


@pytest.mark.parametrize(("private", "public"), [(1, 0), (1, 2), (3, 0)])
def test_other_numbers_of_attributes(private, public, source):
    parameters = coconut.parameters(private, public)
    dealt = deal(private + public, 1, 1, source)
    values = [random_scalar(source) for _ in range(private + public)]
    asked, pending = coconut.request(parameters, values[:private], values[private:], b"", source)
    share = unblind(dealt.issuers[0], pending, coconut.blind_sign(parameters, dealt.secrets[0], asked))
    shown = coconut.show(parameters, dealt.key, coconut.credential(pending, [share], 1), CONTEXT, source)
    received = Show.from_bytes(shown.to_bytes())
    assert received == shown
    coconut.verify_show(parameters, dealt.key, received, CONTEXT)


def test_a_blind_signature_is_the_same_each_time(dealt, issued):
    answer = coconut.blind_sign(PARAMETERS, dealt.secrets[0], issued.request, b"account")
    assert answer == issued.answers[0]
    assert answer.base == issued.pending.base


def test_wrong_numbers_of_attributes_are_refused(dealt, issued, credential, shown, source):
    one = coconut.parameters(1, 2)
    fault = CredentialFault.WRONG_COUNT
    assert_refused(fault, coconut.request, PARAMETERS, [ONE], [ONE, ONE], b"", source)
    assert_refused(fault, coconut.request, PARAMETERS, [ONE, ONE, ONE], [ONE], b"", source)
    assert_refused(fault, coconut.check_request, one, issued.request, b"account")
    assert_refused(fault, coconut.blind_sign, one, dealt.secrets[0], issued.request, b"account")
    assert_refused(fault, coconut.show, one, dealt.key, credential, CONTEXT, source)
    for count in (0, 33):
        with pytest.raises(EncodingError):
            Parameters(count, 0)
    short = replace(shown, shown=replace(shown.shown, public=shown.public[:1]))
    assert_refused(fault, verify, dealt, short)


def test_a_request_that_was_altered_is_refused(dealt, issued, source):
    asked = issued.request
    moved = G1_BASE * random_scalar(source)
    for altered in (
        replace(asked, public=(scalar(VALUE + 1), scalar(EXPIRY))),
        replace(asked, commitment=moved),
        replace(asked, parts=(moved, asked.parts[1])),
        replace(asked, parts=asked.parts[::-1]),
    ):
        assert_refused(CredentialFault.BAD_PROOF, coconut.blind_sign, PARAMETERS, dealt.secrets[0], altered, b"account")
    assert_refused(
        CredentialFault.BAD_PROOF, coconut.blind_sign, PARAMETERS, dealt.secrets[0], asked, b"another account"
    )


def test_every_altered_field_of_a_show_is_refused(dealt, shown):
    ours = shown.shown
    moved = G1_BASE.point
    for altered in (
        replace(ours, kappa=ours.kappa + curve.G2_BASE.point),
        replace(ours, nu=moved),
        replace(ours, signature=Signature(moved, ours.signature.value)),
        replace(ours, signature=Signature(ours.signature.base, moved)),
        replace(ours, signature=ours.signature.randomised(Scalar(2))),
        replace(ours, nullifier=moved),
        replace(ours, public=(scalar(VALUE + 1), scalar(EXPIRY))),
        replace(ours, public=(scalar(VALUE), scalar(EXPIRY + 1))),
    ):
        assert_refused(CredentialFault.BAD_PROOF, verify, dealt, replace(shown, shown=altered))


def test_a_show_under_another_key_is_refused(shown):
    assert_refused(CredentialFault.BAD_PROOF, verify, deal(4, 1, 1, drawn("another key")), shown)


def test_a_credential_that_nobody_signed_is_refused(dealt, credential, source):
    forged = replace(credential, signature=Signature(G1_BASE * random_scalar(source), G1_BASE * random_scalar(source)))
    shown = coconut.show(PARAMETERS, dealt.key, forged, CONTEXT, source)
    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, shown)


# ---- attacks


def leave_out(monkeypatch, *names):
    """Weaken the transcript: these elements are not hashed."""
    strong = proofs.challenge_of

    def weak(statement, made):
        kept = tuple(each for each in statement.elements if each[0] not in names)
        return strong(replace(statement, elements=kept), made)

    monkeypatch.setattr(proofs, "challenge_of", weak)


def fresh_nullifier(dealt, credential, source):
    """Show a credential with a nullifier that was solved for, after its challenge."""
    honest = coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, source).shown
    r, rerandomise = random_scalar(source), random_scalar(source)
    signature = credential.signature.randomised(rerandomise)
    kappa = dealt.key.alpha + dealt.key.part(0, credential.private) + curve.G2_BASE * r
    shown = replace(honest, kappa=kappa, nu=signature.base * r, signature=signature)
    statement = show_module.show_statement(PARAMETERS, dealt.key, shown, CONTEXT)
    secrets = {"r": r, "attribute 0": credential.private[0], "attribute 1": credential.private[1]}
    blinding = {name: random_scalar(source) for name in statement.secrets}
    made = proofs.commitments(statement, blinding)
    committed = G1_BASE * random_scalar(source)
    made[2] = encode(committed)
    challenge = proofs.challenge_of(statement, made)
    responses = tuple(blinding[name] - challenge * secrets[name] for name in statement.secrets)
    serial = responses[statement.secrets.index("attribute 0")]
    nullifier = (committed - PARAMETERS.nullifier_base * serial) * (ONE / challenge)
    return Show(replace(shown, nullifier=nullifier), Proof(challenge, responses))


def test_a_nullifier_that_is_not_bound_lets_a_credential_be_spent_again(dealt, credential, shown, source, monkeypatch):
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, fresh_nullifier(dealt, credential, source))
    leave_out(monkeypatch, "nullifier")
    again = [fresh_nullifier(dealt, credential, source) for _ in range(2)]
    for each in again:
        verify(dealt, each)
    assert len({shown.nullifier, *(each.nullifier for each in again)}) == 3


def cut_short(dealt, credential, source):
    """A show whose proof says nothing but nu = r h', with a nullifier that is drawn."""
    honest = coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, source).shown
    r = random_scalar(source)
    shown = replace(
        honest,
        kappa=dealt.key.alpha + dealt.key.part(0, credential.private) + curve.G2_BASE * r,
        nu=honest.signature.base * r,
        nullifier=G1_BASE * random_scalar(source),
    )
    statement = show_module.show_statement(PARAMETERS, dealt.key, shown, CONTEXT)
    blinding = random_scalar(source)
    challenge = proofs.challenge_of(statement, [encode(honest.signature.base * blinding)])
    return Show(shown, Proof(challenge, (blinding - challenge * r,)))


def test_a_short_list_of_responses_skips_equations(dealt, credential, source, monkeypatch):
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, cut_short(dealt, credential, source))
    strong = proofs.commitments

    def skipping(statement, scalars, challenge=None):
        known = [each for each in statement.relations if all(term.secret in scalars for term in each.terms)]
        return strong(replace(statement, relations=tuple(known)), scalars, challenge)

    monkeypatch.setattr(proofs, "complete", lambda *_: True)
    monkeypatch.setattr(proofs, "commitments", skipping)
    verify(dealt, cut_short(dealt, credential, source))


def test_a_long_list_of_responses_gives_a_show_a_second_form(dealt, shown, monkeypatch):
    long = replace(shown, proof=replace(shown.proof, responses=(*shown.proof.responses, ONE)))
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, long)
    monkeypatch.setattr(proofs, "complete", lambda *_: True)
    verify(dealt, long)


def test_responses_in_another_order_make_a_nullifier_of_another_attribute(dealt, credential, source, monkeypatch):
    strong = show_module.show_statement

    def weak(parameters, key, shown, context):
        statement = strong(parameters, key, shown, context)
        taken = replace(statement.relations[2], terms=(Term("attribute 1", parameters.nullifier_base),))
        return replace(statement, relations=(*statement.relations[:2], taken))

    attack = shown_by_key(dealt, credential, source, weak)
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, attack)
    monkeypatch.setattr(show_module, "show_statement", weak)
    verify(dealt, attack)


def shown_by_key(dealt, credential, source, statement_of=show_module.show_statement):
    """A show whose nullifier is made of the client key instead of the serial number."""
    signature = credential.signature.randomised(random_scalar(source))
    r = random_scalar(source)
    shown = Shown(
        dealt.key.alpha + dealt.key.part(0, credential.private) + curve.G2_BASE * r,
        signature.base * r,
        signature,
        PARAMETERS.nullifier_base * credential.private[1],
        credential.public,
    )
    secrets = {"r": r, "attribute 0": credential.private[0], "attribute 1": credential.private[1]}
    statement = statement_of(PARAMETERS, dealt.key, shown, CONTEXT)
    return Show(shown, proofs.prove(statement, secrets, source))


@pytest.mark.parametrize("part", ["chain", "receiver", "nonce"])
def test_a_show_cannot_be_moved(dealt, credential, part, source, monkeypatch):
    def stolen():
        elsewhere = replace(CONTEXT, **{part: b"another"})
        verify(dealt, coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, source), elsewhere)

    assert_refused(CredentialFault.BAD_PROOF, stolen)
    strong = proofs.challenge_of
    monkeypatch.setattr(proofs, "challenge_of", lambda statement, made: strong(replace(statement, context=()), made))
    stolen()


def test_what_a_context_is_made_of_cannot_be_shifted(dealt, credential, source):
    shown = coconut.show(PARAMETERS, dealt.key, credential, coconut.Context(b"ab", b"c", b""), source)
    assert_refused(CredentialFault.BAD_PROOF, verify, dealt, shown, coconut.Context(b"a", b"bc", b""))


def test_a_value_cannot_be_hidden_so_that_the_expiry_is_taken_for_it(dealt, credential, source):
    """The split into private and public attributes is the verifier's, not the show's."""
    three = coconut.parameters(3, 1)
    moved = replace(credential, private=(*credential.private, credential.public[0]), public=credential.public[1:])
    attack = coconut.show(three, dealt.key, moved, CONTEXT, source)
    assert_refused(CredentialFault.WRONG_COUNT, verify, dealt, attack)
    # A verifier that goes by the counts in the show reads a value of 1000.
    weak = coconut.parameters(len(attack.proof.responses) - 1, len(attack.public))
    verify(dealt, attack, CONTEXT, weak)
    assert attack.public[0] == scalar(EXPIRY)


def test_another_value_needs_it_to_be_left_out_of_proof_and_pairing(dealt, credential, source, monkeypatch):
    def attack():
        shown = coconut.show(PARAMETERS, dealt.key, credential, CONTEXT, source)
        rich = replace(shown.shown, public=(scalar(VALUE * 100), scalar(EXPIRY)))
        verify(dealt, replace(shown, shown=rich))

    assert_refused(CredentialFault.BAD_PROOF, attack)
    leave_out(monkeypatch, "public 0")
    assert_refused(CredentialFault.BAD_SIGNATURE, attack)
    strong = keys.VerificationKey.part
    true_public = credential.public

    def weak(key, first, attributes):  # the pairing is checked with what was signed
        return strong(key, first, true_public if first == 2 else attributes)

    monkeypatch.setattr(keys.VerificationKey, "part", weak)
    attack()


def mixed_from_two(dealt, first, second):
    """2 s - s' of two requests: a signature on 2 m - m' where both have one h."""
    twice = first.credential.signature.value * Scalar(2) - second.credential.signature.value
    private, public = (
        tuple(mine * Scalar(2) - theirs for mine, theirs in zip(ours, others, strict=True))
        for ours, others in (
            (first.credential.private, second.credential.private),
            (first.credential.public, second.credential.public),
        )
    )
    return coconut.Credential(Signature(first.credential.signature.base, twice), private, public)


def test_shares_of_two_requests_do_not_mix(dealt, source, monkeypatch):
    first, second = (
        issue_credential(dealt, name, public=[scalar(v), scalar(EXPIRY)]) for name, v in (("a", 5), ("b", 1))
    )
    shares = [
        unblind(dealt.issuers[number], each.pending, each.answers[number])
        for number, each in enumerate((first, second))
    ]
    assert_refused(CredentialFault.MIXED, coconut.credential, first.pending, shares, THRESHOLD)
    named = assert_refused(CredentialFault.BAD_SHARE, unblind, dealt.issuers[0], first.pending, second.answers[0])
    assert named == 1
    attack = mixed_from_two(dealt, first, second)
    forged = coconut.show(PARAMETERS, dealt.key, attack, CONTEXT, source)
    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, forged)

    monkeypatch.setattr(request_module, "request_base", lambda *_: G1_BASE * Scalar(77))
    first, second = (
        issue_credential(dealt, name, public=[scalar(v), scalar(EXPIRY)]) for name, v in (("a", 5), ("b", 1))
    )
    attack = mixed_from_two(dealt, first, second)
    verify(dealt, coconut.show(PARAMETERS, dealt.key, attack, CONTEXT, source))
    assert attack.public[0] == scalar(9)  # nobody signed a nine


def test_fewer_shares_than_the_threshold_sign_nothing(dealt, issued, source, monkeypatch):
    def attack(dealt):
        answer = coconut.blind_sign(PARAMETERS, dealt.secrets[0], issued.request, b"account")
        share = unblind(dealt.issuers[0], issued.pending, answer)
        alone = coconut.credential(issued.pending, [share], 1)
        verify(dealt, coconut.show(PARAMETERS, dealt.key, alone, CONTEXT, source))

    assert_refused(CredentialFault.BAD_SIGNATURE, attack, dealt)
    share = unblind(dealt.issuers[0], issued.pending, issued.answers[0])
    assert_refused(CredentialFault.TOO_FEW, coconut.credential, issued.pending, [share, share], THRESHOLD)
    strong = keys.random_polynomial
    monkeypatch.setattr(keys, "random_polynomial", lambda threshold, random: strong(threshold - 1, random))
    attack(deal(4, 3, THRESHOLD, source))


def test_a_lying_issuer_is_named(dealt, issued, monkeypatch):
    known = {issuer.index: issuer for issuer in dealt.issuers}
    answers = [coconut.blind_sign(PARAMETERS, secret, issued.request, b"account") for secret in dealt.secrets]
    lie = replace(answers[0], value=answers[0].value + G1_BASE.point)
    assert assert_refused(CredentialFault.BAD_SHARE, unblind, dealt.issuers[0], issued.pending, lie) == 1
    posing = replace(answers[1], issuer=1)
    assert assert_refused(CredentialFault.BAD_SHARE, unblind, dealt.issuers[0], issued.pending, posing) == 1
    stranger = BlindShare(99, lie.base, lie.value)
    collected = collect(known, issued.pending, [stranger, lie, posing, answers[1], answers[1], answers[2]])
    assert collected.signature == issued.credential.signature
    assert collected.liars == (1,)
    assert_refused(CredentialFault.TOO_FEW, collect, known, issued.pending, [lie, answers[2]])

    monkeypatch.setattr(blind, "signs", lambda *_: True)
    spoilt = collect(known, issued.pending, [lie, answers[1]])
    assert spoilt.liars == ()
    assert spoilt.signature != issued.credential.signature


def test_a_ledger_can_check_answers_without_any_secret(dealt, issued):
    asked, public = issued.request, [scalar(VALUE), scalar(EXPIRY)]
    base = coconut.check_request(PARAMETERS, asked, b"account")
    answer = issued.answers[0]
    blind.check_answer(dealt.issuers[0], base, asked.parts, public, answer)
    for lie in (
        replace(answer, value=answer.value + G1_BASE.point),
        replace(answer, base=G1_BASE.point),
        replace(answer, issuer=2),
        replace(issued.answers[1], issuer=1),
    ):
        assert (
            assert_refused(
                CredentialFault.BAD_SHARE, blind.check_answer, dealt.issuers[0], base, asked.parts, public, lie
            )
            == 1
        )
    other = [scalar(VALUE + 1), scalar(EXPIRY)]
    assert_refused(CredentialFault.BAD_SHARE, blind.check_answer, dealt.issuers[0], base, asked.parts, other, answer)
    assert_refused(CredentialFault.MIXED, blind.check_answer, dealt.issuers[0], base, asked.parts, public[:1], answer)


def test_the_identity_in_all_places_is_no_credential(dealt, source, monkeypatch):
    """e(0, anything) = e(0, g2): with h' = s' = nu = 0 any attributes pass the pairing."""
    nothing = curve.identity_of(G1_BASE.point)

    def attack():
        secrets = {"r": ONE, "attribute 0": random_scalar(source), "attribute 1": ONE}
        kappa = dealt.key.alpha + dealt.key.part(0, [secrets["attribute 0"], ONE]) + curve.G2_BASE * ONE
        nullifier = PARAMETERS.nullifier_base * secrets["attribute 0"]
        shown = Shown(kappa, nothing, Signature(nothing, nothing), nullifier, (scalar(10**6), scalar(EXPIRY)))
        statement = show_module.show_statement(PARAMETERS, dealt.key, shown, CONTEXT)
        forged = Show(shown, proofs.prove(statement, secrets, source))
        with pytest.raises(EncodingError, match="identity"):
            Show.from_bytes(forged.to_bytes())
        return forged

    assert_refused(CredentialFault.BAD_SIGNATURE, verify, dealt, attack())
    monkeypatch.setattr(show_module, "is_identity", lambda _: False)
    verify(dealt, attack())


# ---- many at once


def bad_pair(dealt, credential, source):
    """Two shows whose second halves are off by one point, in opposite directions."""
    shows = []
    for off in (G1_BASE.point, -G1_BASE.point):
        r = random_scalar(source)
        honest = credential.signature.randomised(random_scalar(source))
        signature = Signature(honest.base, honest.value + off)
        shown = Shown(
            dealt.key.alpha + dealt.key.part(0, credential.private) + curve.G2_BASE * r,
            signature.base * r,
            signature,
            PARAMETERS.nullifier_base * credential.private[0],
            credential.public,
        )
        secrets = {"r": r, "attribute 0": credential.private[0], "attribute 1": credential.private[1]}
        statement = show_module.show_statement(PARAMETERS, dealt.key, shown, CONTEXT)
        shows.append((Show(shown, proofs.prove(statement, secrets, source)), CONTEXT))
    return shows


def test_a_batch_finds_each_bad_show(dealt, credential, shown, source):
    good = [(shown, CONTEXT)] * 2
    assert coconut.verify_shows(PARAMETERS, dealt.key, good, source) == [None, None]
    assert coconut.verify_shows(PARAMETERS, dealt.key, [], source) == []
    bad = bad_pair(dealt, credential, source)[0]
    moved = (shown, replace(CONTEXT, nonce=b"another"))
    short = (replace(shown, shown=replace(shown.shown, public=())), CONTEXT)
    assert coconut.verify_shows(PARAMETERS, dealt.key, [good[0], bad, moved, short, good[1]], source) == [
        None,
        CredentialFault.BAD_SIGNATURE,
        CredentialFault.BAD_PROOF,
        CredentialFault.WRONG_COUNT,
        None,
    ]
    assert coconut.verify_shows(PARAMETERS, dealt.key, [moved], source) == [CredentialFault.BAD_PROOF]


def test_two_bad_shows_cancel_without_weights(dealt, credential, source, monkeypatch):
    pair = bad_pair(dealt, credential, source)
    bad = [CredentialFault.BAD_SIGNATURE] * 2
    assert coconut.verify_shows(PARAMETERS, dealt.key, pair, source) == bad
    monkeypatch.setattr(show_module, "random_weight", lambda _: ONE)
    assert coconut.verify_shows(PARAMETERS, dealt.key, pair, source) == [None, None]


def test_secrets_are_not_printed(dealt, issued, credential):
    for secret in (dealt.secrets[0], issued.pending, credential):
        assert "Scalar" not in repr(secret)
        assert len(repr(secret)) < 30


def test_a_base_has_no_table_unless_it_is_asked_for():
    assert not Base(G1_BASE.point).tabled
