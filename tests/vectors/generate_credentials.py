"""Writes the known answers of both credential schemes, the same to the byte each time. CREDENTIALS.md describes them.

Run `python tests/vectors/generate_credentials.py` after a format was changed on purpose. Needs nymtw[credentials].
"""

import json
import random
from hashlib import sha512
from pathlib import Path

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import unblind
from nymtw.credentials.coconut.issuing import request_statement
from nymtw.credentials.coconut.showing import show_statement
from nymtw.credentials.complaints import complain, complaint_statement, resolve
from nymtw.credentials.curve import (
    G1_BASE,
    encode,
    framed,
    hash_to_g1,
    hash_to_scalar,
    random_scalar,
    random_weight,
    scalar,
)
from nymtw.credentials.dkg import (
    TransportSecret,
    deal_to,
    dealing_statement,
    derive_public,
    derive_secret,
    open_shares,
)
from nymtw.credentials.ecash.payments import payment_statement, ticket_challenge
from nymtw.credentials.ecash.withdrawal import seed_offset, withdrawal_statement
from nymtw.credentials.keys import deal
from nymtw.credentials.proofs import challenge_of, commitments

HERE = Path(__file__).resolve().parent
THRESHOLD, ISSUERS = 2, 3


class Drawn(random.Random):
    """Draw number i, from 0, of n bytes: the first n of SHA-512 over the seed and i (4 bytes, big-endian)."""

    def __init__(self, seed):
        super().__init__(0)
        self.seed, self.number = seed.encode(), 0

    def randbytes(self, n):
        assert n <= 64
        self.number += 1
        return sha512(self.seed + (self.number - 1).to_bytes(4, "big")).digest()[:n]


def text(value):
    """Bytes and all that has a byte form, as hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "to_bytes"):
        return value.to_bytes().hex()
    if isinstance(value, (list, tuple)):
        return [text(each) for each in value]
    return encode(value).hex()


def proof_of(statement, proof):
    """How a proof is checked: what is hashed, what the commitments have to be."""
    made = commitments(statement, dict(zip(statement.secrets, proof.responses, strict=True)), proof.challenge)
    assert challenge_of(statement, made) == proof.challenge
    return {
        "name": statement.name.decode(),
        "elements": [{"name": name, "bytes": data.hex()} for name, data in statement.elements],
        "commitments": text(made),
        "context": text(statement.context),
        "challenge": text(proof.challenge),
        "responses": dict(zip(statement.secrets, map(text, proof.responses), strict=True)),
    }


def keys(dealt):
    return {
        "threshold": THRESHOLD,
        "secret_keys": text(dealt.secrets),
        "issuer_keys": text(dealt.issuers),
        "verification_key": text(dealt.key),
        "verification_key_digest": text(dealt.key.digest),
    }


def core():
    seed = "nymtw credentials core"
    source = Drawn(seed)
    parts = [b"one", b"", b"three"]
    return {
        "seed": seed,
        "random_scalars": text([random_scalar(source) for _ in range(2)]),
        "random_weight": text(random_weight(source)),
        "parts": text(parts),
        "framed": text(framed(parts)),
        "hash_to_scalar": text(hash_to_scalar(*parts)),
        "hash_to_g1": text(hash_to_g1(*parts)),
        "g1": text(G1_BASE.point),
    }


def coconut_vectors():
    seed = "nymtw credentials coconut"
    source = Drawn(seed)
    parameters = coconut.parameters(2, 2)
    dealt = deal(4, ISSUERS, THRESHOLD, source)
    private = [random_scalar(source), random_scalar(source)]
    public = [scalar(1), scalar(1234)]
    asked, pending = coconut.request(parameters, private, public, b"account", source)
    answers = [coconut.blind_sign(parameters, secret, asked, b"account") for secret in dealt.secrets]
    shares = [unblind(issuer, pending, answer) for issuer, answer in zip(dealt.issuers, answers, strict=True)]
    credential = coconut.credential(pending, shares, THRESHOLD)
    context = coconut.Context(b"nymtw-1", b"account of provider 1", b"nonce 1")
    show = coconut.show(parameters, dealt.key, credential, context, source)
    coconut.verify_show(parameters, dealt.key, show, context)
    return {
        "seed": seed,
        "parameters": {
            "private": 2,
            "public": 2,
            "generators": text([base.point for base in parameters.generators]),
            "nullifier_base": text(parameters.nullifier_base.point),
            "digest": text(parameters.digest),
        },
        "keys": keys(dealt),
        "private_attributes": text(private),
        "public_attributes": text(public),
        "request_context": text(b"account"),
        "request": text(asked),
        "request_proof": proof_of(
            request_statement(parameters, asked.commitment, pending.base, asked.parts, asked.public, b"account"),
            asked.proof,
        ),
        "pending": text(pending),
        "blind_shares": text(answers),
        "shares": text(shares),
        "credential": text(credential),
        "show_context": text(context),
        "show": text(show),
        "show_proof": proof_of(show_statement(parameters, dealt.key, show.shown, context), show.proof),
        "nullifier": text(show.nullifier),
    }


def payment_vector(parameters, dealt, payment, info, day):
    return {
        "info": text(info),
        "day": day,
        "ticket_challenges": text([ticket_challenge(info, n) for n in range(len(payment.serials))]),
        "payment": text(payment),
        "proof": proof_of(payment_statement(parameters, dealt.key, payment.paid, info), payment.proof),
        "serials": text(payment.serials),
    }


def ecash_vectors():
    seed = "nymtw credentials ecash"
    source = Drawn(seed)
    parameters = ecash.parameters(50)
    dealt = deal(4, ISSUERS, THRESHOLD, source)
    owner = random_scalar(source)
    expiry, kind, first = 20_500, 1, 20_494
    asked, pending = ecash.withdraw(parameters, owner, expiry, kind, b"deposit 1", source)
    answers = [ecash.issue(parameters, secret, asked, b"deposit 1") for secret in dealt.secrets]
    shares = [unblind(issuer, pending, answer) for issuer, answer in zip(dealt.issuers, answers, strict=True)]
    book = ecash.ticket_book(pending, shares, THRESHOLD)
    helpers, helper_shares = [], []
    for subject in (ecash.Indices(50), ecash.Dates(expiry, first)):
        signed = [ecash.sign_helpers(secret, subject) for secret in dealt.secrets[:THRESHOLD]]
        helper_shares.append(signed[0])
        # Weights are not part of what is made: they are drawn elsewhere.
        helpers.append(ecash.aggregate_helpers(dealt.issuers, subject, signed, Drawn("weights"))[0])
    known = ecash.Helpers(*helpers)
    infos = [ecash.PaymentInfo(bytes([n]) * 32, 1_771_200_000 + n, bytes([n]) * 16) for n in (1, 2)]
    one, rest = ecash.pay(parameters, dealt.key, book, 1, known, infos[0], first, source)
    again = ecash.pay_with(parameters, dealt.key, book, (2, 0), known, infos[1], expiry, source)
    ecash.verify_payment(parameters, dealt.key, one, infos[0], first, source)
    ecash.verify_payment(parameters, dealt.key, again, infos[1], expiry, source)
    found = ecash.identify(one, infos[0], again, infos[1])
    return {
        "seed": seed,
        "parameters": {
            "tickets": 50,
            "gammas": text([base.point for base in parameters.gammas]),
            "delta": text(parameters.delta.point),
            "digest": text(parameters.digest),
        },
        "keys": keys(dealt),
        "owner_secret_key": text(owner),
        "owner_public_key": text(asked.owner),
        "expiry": expiry,
        "type": kind,
        "withdrawal_context": text(b"deposit 1"),
        "withdrawal": text(asked),
        "withdrawal_proof": proof_of(
            withdrawal_statement(
                parameters, asked.commitment, pending.base, asked.parts, asked.owner, expiry, kind, b"deposit 1"
            ),
            asked.proof,
        ),
        "seed_offset": text(seed_offset([asked.commitment, *asked.parts, asked.owner])),
        "pending": text(pending),
        "blind_shares": text(answers),
        "shares": text(shares),
        "book": text(book),
        "book_after_one": text(rest),
        "helper_shares_of_issuer_1": text(helper_shares),
        "index_signatures": text(helpers[0]),
        "date_signatures": text(helpers[1]),
        "payments": [
            payment_vector(parameters, dealt, one, infos[0], first),
            payment_vector(parameters, dealt, again, infos[1], expiry),
        ],
        "spender": text(found.spender),
    }


def dkg_vectors():
    seed = "nymtw credentials dkg"
    source = Drawn(seed)
    context = b"nymtw-1, epoch 1"
    secrets = [TransportSecret(random_scalar(source)) for _ in range(ISSUERS)]
    recipients = [secret.public() for secret in secrets]
    dealings = {index: deal_to(recipients, index, THRESHOLD, 1, context, source) for index in (1, 2, 3)}
    complaint = complain(dealings[1], 2, secrets[1], context, source)
    issuers, key = derive_public(dealings, ISSUERS)
    opened = [
        [open_shares(dealing, index, secret, context) for dealing in dealings.values()]
        for index, secret in enumerate(secrets, 1)
    ]
    derived = [derive_secret(index, THRESHOLD, shares) for index, shares in enumerate(opened, 1)]
    assert [secret.public() for secret in derived] == issuers
    statement = complaint_statement(dealings[1].dealt, 2, recipients[1], complaint.shared, context)
    return {
        "seed": seed,
        "threshold": THRESHOLD,
        "attributes": 1,
        "context": text(context),
        "transport_secrets": text(secrets),
        "transport_keys": text(recipients),
        "dealings": text(list(dealings.values())),
        "dealing_1_proof": proof_of(dealing_statement(dealings[1].dealt, recipients, context), dealings[1].proof),
        "shares_of_issuer_1": text(opened[0]),
        "complaint": text(complaint),
        "complaint_proof": proof_of(statement, complaint.proof),
        "judgement": resolve(complaint, dealings[1], recipients, context).value,
        "secret_keys": text(derived),
        "issuer_keys": text(issuers),
        "verification_key": text(key),
    }


VECTORS = {
    "credentials-core.json": core,
    "credentials-coconut.json": coconut_vectors,
    "credentials-ecash.json": ecash_vectors,
    "credentials-dkg.json": dkg_vectors,
}


def main():
    for name, make in VECTORS.items():
        (HERE / name).write_text(json.dumps(make(), indent=1) + "\n")


if __name__ == "__main__":
    main()
