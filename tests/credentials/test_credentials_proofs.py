"""The one proof: what it says of every statement of both schemes, and that nothing public is left out of its hash."""

from dataclasses import replace

import pytest
from credential_parts import BOOK_EXPIRY, BOOK_TYPE, CONTEXT, ECASH, INFO, PARAMETERS, drawn

from nymtw.credentials import proofs
from nymtw.credentials.coconut.issuing import request_statement
from nymtw.credentials.coconut.showing import show_statement
from nymtw.credentials.complaints import complain, complaint_statement
from nymtw.credentials.curve import G1, G1_BASE, Base, Scalar, encode, random_scalar
from nymtw.credentials.dkg import TransportSecret, deal_to, dealing_statement
from nymtw.credentials.ecash.payments import payment_statement
from nymtw.credentials.ecash.withdrawal import withdrawal_base, withdrawal_statement
from nymtw.credentials.proofs import Proof, Relation, Statement, Term, holds, prove

ROUND = b"chain, epoch 1"


@pytest.fixture(scope="module")
def statements(dealt, issued, shown, withdrawn, payment):
    """Every kind of statement with a proof of it."""
    asked, withdrawal = issued.request, withdrawn[0]
    hidden = withdrawal_base(ECASH, withdrawal.commitment, BOOK_EXPIRY, BOOK_TYPE)
    secrets = [TransportSecret.generate(drawn(f"transport {number}")) for number in range(2)]
    recipients = [secret.public() for secret in secrets]
    dealing = deal_to(recipients, 1, 2, 1, ROUND, drawn("dealing"))
    complaint = complain(dealing, 2, secrets[1], ROUND, drawn("complaint"))
    return {
        "request": (
            request_statement(PARAMETERS, asked.commitment, issued.pending.base, asked.parts, asked.public, b"account"),
            asked.proof,
        ),
        "show": (show_statement(PARAMETERS, dealt.key, shown.shown, CONTEXT), shown.proof),
        "withdrawal": (
            withdrawal_statement(
                ECASH,
                withdrawal.commitment,
                hidden,
                withdrawal.parts,
                withdrawal.owner,
                BOOK_EXPIRY,
                BOOK_TYPE,
                b"deposit",
            ),
            withdrawal.proof,
        ),
        "payment": (payment_statement(ECASH, dealt.key, payment.paid, INFO), payment.proof),
        "dealing": (dealing_statement(dealing.dealt, recipients, ROUND), dealing.proof),
        "complaint": (
            complaint_statement(dealing.dealt, 2, recipients[1], complaint.shared, ROUND),
            complaint.proof,
        ),
    }


# Every element of every statement, by name: what a statement is made of does not change unnoticed.
ELEMENTS = {
    "request": "parameters commitment base part_0 part_1 public_0 public_1",
    "show": "parameters key kappa nu base value nullifier public_0 public_1",
    "withdrawal": "parameters commitment base part_0 part_1 owner expiry type",
    "payment": "parameters key type count kappa base value kappa_date base_date value_date seed "
    "kappa_0 base_0 value_0 serial_0 tag_0 index_0",
    "dealing": "dealt recipients",
    "complaint": "dealt index recipient shared",
}
EACH = [(kind, name.replace("_", " ")) for kind, names in ELEMENTS.items() for name in names.split()]


def without(statement: Statement, name: str) -> Statement:
    """The statement as a copy of the proof hashes it that leaves one element out."""
    return replace(statement, elements=tuple(each for each in statement.elements if each[0] != name))


def leaving_out(monkeypatch, name):
    """Weaken the transcript: this element is not hashed."""
    strong = proofs.challenge_of
    monkeypatch.setattr(proofs, "challenge_of", lambda statement, made: strong(without(statement, name), made))


def changed(statement, name):
    """The statement with another value of one element, the relations as they were."""
    elements = tuple(
        (each, data[:-1] + bytes([data[-1] ^ 1]) if each == name else data) for each, data in statement.elements
    )
    return replace(statement, elements=elements)


@pytest.mark.parametrize("kind", ELEMENTS)
def test_each_proof_holds_and_is_of_all_that_is_public(statements, kind):
    statement, proof = statements[kind]
    assert holds(statement, proof)
    assert " ".join(name.replace(" ", "_") for name, _ in statement.elements) == ELEMENTS[kind]
    assert not holds(replace(statement, name=b"another"), proof)
    for number, _ in enumerate(statement.context):
        context = list(statement.context)
        context[number] += b"x"
        assert not holds(replace(statement, context=tuple(context)), proof)


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_an_element_that_is_not_hashed_can_be_changed_behind_the_proof(statements, kind, name, monkeypatch):
    statement, proof = statements[kind]
    assert not holds(changed(statement, name), proof)
    leaving_out(monkeypatch, name)
    secrets = {each: Scalar(number) for number, each in enumerate(statement.secrets, 2)}
    # A statement about secrets of ours with the relations of this kind, so that the weak copy can prove it too.
    relations = tuple(replace(each, image=Base(image_of(each, secrets))) for each in statement.relations)
    own = replace(statement, relations=relations)
    assert holds(changed(own, name), prove(own, secrets, drawn(name)))


def image_of(relation, secrets):
    made = proofs.commitments(Statement(b"", (), (relation,), ()), secrets)
    decode = type(relation.image.point).from_compressed_bytes
    return decode(made[0])


# The elements that are an image of a relation: what a prover who chooses it last can do.
IMAGES = [
    ("request", "commitment", 0),
    ("request", "part 0", 1),
    ("request", "part 1", 2),
    ("show", "kappa", 0),
    ("show", "nu", 1),
    ("show", "nullifier", 2),
    ("withdrawal", "commitment", 0),
    ("withdrawal", "part 0", 1),
    ("withdrawal", "part 1", 2),
    ("withdrawal", "owner", 3),
    ("payment", "kappa", 0),
    ("payment", "kappa date", 1),
    ("payment", "seed", 2),
    ("payment", "kappa 0", 3),
    ("payment", "index 0", 4),
    ("payment", "serial 0", 6),
    ("payment", "tag 0", 7),
    ("complaint", "recipient", 0),
    ("complaint", "shared", 1),
]


def solved(statement, name, place, source):
    """Choose challenge and responses first, then the image that fits them: a false statement and its proof.

    The secrets of the other relations are honest; the image has nothing to do with them.
    """
    secrets = {each: random_scalar(source) for each in statement.secrets}
    relations = [replace(each, image=Base(image_of(each, secrets))) for each in statement.relations]
    blinding = {each: random_scalar(source) for each in statement.secrets}
    whole = replace(statement, relations=tuple(relations))
    made = proofs.commitments(whole, blinding)
    point = relations[place].image.point * random_scalar(source)
    made[place] = encode(point)
    challenge = proofs.challenge_of(whole, made)
    proof = Proof(challenge, tuple(blinding[each] - challenge * secrets[each] for each in statement.secrets))
    responses = dict(zip(statement.secrets, proof.responses, strict=True))
    rest = image_of(relations[place], responses)
    image = (point - rest) * (Scalar(1) / challenge)
    true_image = relations[place].image.point
    relations[place] = replace(relations[place], image=Base(image))
    elements = tuple((each, encode(image) if each == name else data) for each, data in statement.elements)
    assert image != true_image
    return replace(statement, relations=tuple(relations), elements=elements), proof


@pytest.mark.parametrize(("kind", "name", "place"), IMAGES)
def test_an_image_that_is_not_hashed_can_be_solved_for(statements, kind, name, place, monkeypatch):
    statement, _ = statements[kind]
    assert not holds(*solved(statement, name, place, drawn("solve")))
    leaving_out(monkeypatch, name)
    assert holds(*solved(statement, name, place, drawn("solve")))


def test_a_base_that_is_not_hashed_can_be_solved_for(statements, monkeypatch):
    """The show's h': nu need not be r h' for the r of kappa, if h' may be chosen last."""

    def attack():
        source = drawn("base")
        statement, _ = statements["show"]
        r, blinding = random_scalar(source), random_scalar(source)
        nu, committed = G1_BASE * random_scalar(source), G1_BASE * random_scalar(source)
        elements = tuple((each, encode(nu) if each == "nu" else data) for each, data in statement.elements)
        whole = Statement(b"show", elements, (), CONTEXT.parts)
        challenge = proofs.challenge_of(whole, [encode(committed)])
        response = blinding - challenge * r
        base = (committed - nu * challenge) * (Scalar(1) / response)
        told = tuple((each, encode(base) if each == "base" else data) for each, data in elements)
        relation = Relation(Base(nu), (Term("r", Base(base)),))
        assert base * r != nu
        return replace(whole, elements=told, relations=(relation,)), Proof(challenge, (response,))

    assert not holds(*attack())
    leaving_out(monkeypatch, "base")
    assert holds(*attack())


@pytest.mark.parametrize("kind", ELEMENTS)
@pytest.mark.parametrize("change", ["shorter", "longer", "swapped", "one changed", "challenge changed", "none"])
def test_other_responses_are_refused(statements, kind, change):
    statement, proof = statements[kind]
    first, second, *rest = (*proof.responses, Scalar(0))[:-1] if len(proof.responses) > 1 else (*proof.responses, None)
    altered = {
        "shorter": proof.responses[:-1],
        "longer": (*proof.responses, proof.responses[0]),
        "swapped": (second, first, *rest) if second is not None else (proof.challenge,),
        "one changed": (proof.responses[0] + Scalar(1), *proof.responses[1:]),
        "challenge changed": proof.responses,
        "none": (),
    }[change]
    challenge = proof.challenge + Scalar(1) if change == "challenge changed" else proof.challenge
    assert not holds(statement, Proof(challenge, altered))


def test_the_number_of_responses_is_checked_before_anything_is_computed(statements, monkeypatch):
    statement, proof = statements["payment"]

    def computed(*_):
        raise AssertionError("something was computed")

    monkeypatch.setattr(proofs, "commitments", computed)
    assert not holds(statement, Proof(proof.challenge, proof.responses * 2))


def test_a_secret_that_two_relations_share_is_one(source):
    """x g1 and x h: with two different x there is no proof, whatever one tries to put in for x."""
    base = Base(G1.hash_to_curve(b"h", b"test"))
    x, y = random_scalar(source), random_scalar(source)

    def statement(other):
        images = (G1_BASE * x, base * other)
        elements = tuple((str(number), encode(image)) for number, image in enumerate(images))
        relations = (
            Relation(Base(images[0]), (Term("x", G1_BASE),)),
            Relation(Base(images[1]), (Term("x", base),)),
        )
        return Statement(b"same", elements, relations, ())

    assert holds(statement(x), prove(statement(x), {"x": x}, source))
    for tried in (x, y):
        assert not holds(statement(y), prove(statement(y), {"x": tried}, source))


def test_factors_and_a_base_used_twice_add_up(source):
    x, y, factor = (random_scalar(source) for _ in range(3))
    image = G1_BASE * (x + factor * y)
    relation = Relation(Base(image), (Term("x", G1_BASE), Term("y", G1_BASE, factor)))
    statement = Statement(b"sum", (("image", encode(image)),), (relation,), ())
    assert holds(statement, prove(statement, {"x": x, "y": y}, source))
    assert not holds(statement, prove(statement, {"x": y, "y": x}, source))


def test_two_proofs_of_one_statement_have_nothing_in_common(statements, source):
    statement, _ = statements["show"]
    secrets = {each: random_scalar(source) for each in statement.secrets}
    first, second = prove(statement, secrets, source), prove(statement, secrets, source)
    assert not set(map(int, first.scalars)) & set(map(int, second.scalars))
