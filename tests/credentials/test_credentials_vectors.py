"""The known-answer files: as the generator writes them, and true by the rules of docs/credentials.md."""

import importlib.util
import json
from hashlib import sha512
from pathlib import Path

import pytest

from nymtw.credentials import coconut, ecash
from nymtw.credentials.curve import ORDER
from nymtw.credentials.keys import IssuerKey, VerificationKey, combine

pytestmark = pytest.mark.pythons

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
NAMES = ("core", "coconut", "ecash", "dkg")
FILES = {name: json.loads((VECTORS / f"credentials-{name}.json").read_text()) for name in NAMES}


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_credentials", VECTORS / "generate_credentials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_writes_the_files_that_are_there(generator, name):
    assert generator.VECTORS[f"credentials-{name}.json"]() == FILES[name]


def proofs_in(value):
    if isinstance(value, dict):
        if "challenge" in value:
            yield value
        for each in value.values():
            yield from proofs_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from proofs_in(each)


def framed(parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_every_challenge_is_the_hash_that_the_page_describes():
    """Written out once more, from the files alone."""
    found = [proof for file in FILES.values() for proof in proofs_in(file)]
    assert len(found) == 7
    for proof in found:
        elements = [bytes.fromhex(element["bytes"]) for element in proof["elements"]]
        made, context = ([bytes.fromhex(part) for part in proof[name]] for name in ("commitments", "context"))
        counts = b"".join(len(part).to_bytes(4, "big") for part in (elements, made, context))
        parts = [b"NYMTW-CREDENTIALS-V1 proof", proof["name"].encode(), counts, *elements, *made, *context]
        digest = int.from_bytes(sha512(framed(parts)).digest(), "big") % ORDER
        assert digest.to_bytes(32, "big").hex() == proof["challenge"]


def test_what_is_in_the_files_verifies():
    file = FILES["coconut"]
    key = VerificationKey.from_bytes(bytes.fromhex(file["keys"]["verification_key"]))
    shown = coconut.Show.from_bytes(bytes.fromhex(file["show"]))
    context = coconut.Context.from_bytes(bytes.fromhex(file["show_context"]))
    coconut.verify_show(coconut.parameters(2, 2), key, shown, context)
    assert shown.nullifier.hex() == file["nullifier"]

    file = FILES["ecash"]
    key = VerificationKey.from_bytes(bytes.fromhex(file["keys"]["verification_key"]))
    paid = []
    for each in file["payments"]:
        payment = ecash.Payment.from_bytes(bytes.fromhex(each["payment"]))
        info = ecash.PaymentInfo.from_bytes(bytes.fromhex(each["info"]))
        ecash.verify_payment(ecash.parameters(), key, payment, info, each["day"])
        paid += [payment, info]
    assert ecash.identify(*paid).spender.hex() == file["spender"] == file["owner_public_key"]

    file = FILES["dkg"]
    issuers = [IssuerKey.from_bytes(bytes.fromhex(each)) for each in file["issuer_keys"]]
    assert combine(issuers[1:]).to_bytes().hex() == file["verification_key"]
