"""Shows and payments made here, verified by a second implementation on another library; altered ones refused by both."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nymtw.credentials import coconut, ecash
from nymtw.credentials.blind import unblind
from nymtw.credentials.curve import G1_BASE, encode, random_scalar, scalar
from nymtw.credentials.keys import deal
from nymtw.errors import CredentialRejected, EncodingError

pytestmark = pytest.mark.interop

HERE = Path(__file__).resolve().parent / "credentials"
CASES = 200
SPLITS = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 0), (3, 3)]
TICKETS = 50


class Verifier:
    """The Rust program: one request a line, one answer a line."""

    def __init__(self, program):
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        """Whether it accepts, and what it says."""
        text = " ".join(word.hex() if isinstance(word, bytes) else str(word) for word in words)
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        status, *logged = self._process.stdout.readline().split(maxsplit=1)
        assert status in ("ok", "refused")
        return status == "ok", "".join(logged).strip()

    def close(self):
        self._process.stdin.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="module")
def rust():
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    target = HERE / "target"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target], cwd=HERE, check=True
    )
    verifier = Verifier(target / "release" / "credentials-interop")
    yield verifier
    verifier.close()


def altered(source, data):
    """The bytes with one bit, one byte, the length or an order changed."""
    changed = bytearray(data)
    how = source.randrange(5)
    place = source.randrange(len(data))
    if how == 0:
        changed[place] ^= 1 << source.randrange(8)
    elif how == 1:
        changed[place] = (changed[place] + source.randrange(1, 256)) % 256
    elif how == 2:
        del changed[place:]
    elif how == 3:
        changed += source.randbytes(1)
    else:  # two responses, at the end of all, change places
        changed[-64:] = changed[-32:] + changed[-64:-32]
    return bytes(changed)


def accepted(check):
    """Whether it is accepted here."""
    try:
        check()
    except (CredentialRejected, EncodingError):
        return False
    return True


class Issuance:
    """A key of some split, two of three, and credentials under it."""

    def __init__(self, source, private, public):
        self.parameters = coconut.parameters(private, public)
        self.split = private, public
        dealt = deal(private + public, 3, 2, source)
        self.key = dealt.key.with_tables()
        self.credentials = []
        for _ in range(3):
            values = [random_scalar(source) for _ in range(private)]
            told = [scalar(source.getrandbits(source.choice((1, 32, 250)))) for _ in range(public)]
            asked, pending = coconut.request(self.parameters, values, told, b"account", source)
            shares = [
                unblind(issuer, pending, coconut.blind_sign(self.parameters, secret, asked, b"account"))
                for issuer, secret in list(zip(dealt.issuers, dealt.secrets))[1:]
            ]
            self.credentials.append(coconut.credential(pending, shares, 2))


def draw_context(source):
    return coconut.Context(*(source.randbytes(source.choice((0, 1, 20, 255))) for _ in range(3)))


def test_shows_made_here_are_verified_there(rust, source):
    issuances = [Issuance(source, *split) for split in SPLITS]
    for _ in range(CASES):
        issuance = source.choice(issuances)
        context = draw_context(source)
        show = coconut.show(issuance.parameters, issuance.key, source.choice(issuance.credentials), context, source)
        key, data = issuance.key.to_bytes(), show.to_bytes()
        assert rust.ask("show", *issuance.split, key, data, context.to_bytes()) == (True, show.nullifier.hex())
        coconut.verify_show(issuance.parameters, issuance.key, coconut.Show.from_bytes(data), context)


def test_altered_shows_are_refused_by_both(rust, source):
    issuances = [Issuance(source, *split) for split in SPLITS]
    for number in range(CASES):
        issuance = source.choice(issuances)
        context = draw_context(source)
        show = coconut.show(issuance.parameters, issuance.key, source.choice(issuance.credentials), context, source)
        key, data, told = issuance.key.to_bytes(), show.to_bytes(), context.to_bytes()
        if number % 5 == 0:
            told = replace(context, nonce=source.randbytes(20)).to_bytes()
        elif number % 5 == 1:
            told = altered(source, told)
        else:
            data = altered(source, data)
        if (data, told) == (show.to_bytes(), context.to_bytes()):
            continue  # two equal responses changed places

        def check():
            parsed = coconut.Show.from_bytes(data), coconut.Context.from_bytes(told)
            coconut.verify_show(issuance.parameters, issuance.key, *parsed)

        assert (accepted(check), rust.ask("show", *issuance.split, key, data, told)[0]) == (False, False), data.hex()
        if number < len(SPLITS):
            other = deal(sum(issuance.split), 1, 1, source).key.to_bytes()
            assert rust.ask("show", *issuance.split, other, show.to_bytes(), context.to_bytes()) == (False, "bad-proof")


def test_a_credential_that_nobody_signed_is_refused_by_both(rust, source):
    issuance = Issuance(source, 2, 2)
    credential = issuance.credentials[0]
    context = draw_context(source)
    for public in ([scalar(1)] * 2, credential.public[::-1]):
        forged = replace(credential, public=tuple(public))
        show = coconut.show(issuance.parameters, issuance.key, forged, context, source)
        words = ("show", 2, 2, issuance.key.to_bytes(), show.to_bytes(), context.to_bytes())
        assert rust.ask(*words) == (False, "bad-signature")
        assert not accepted(lambda: coconut.verify_show(issuance.parameters, issuance.key, show, context))


class Bank:
    """A key, helpers for ten days, and books of several owners and types."""

    def __init__(self, source):
        self.parameters = ecash.parameters(TICKETS)
        dealt = deal(4, 3, 2, source)
        self.key = dealt.key.with_tables()
        self.expiry = source.randrange(100, 2**32)
        self.first = self.expiry - 9

        def signed(subject):
            shares = [ecash.sign_helpers(secret, subject) for secret in dealt.secrets[:2]]
            return ecash.aggregate_helpers(dealt.issuers, subject, shares, source)[0]

        self.helpers = ecash.Helpers(signed(ecash.Indices(TICKETS)), signed(ecash.Dates(self.expiry, self.first)))
        self.books = []
        for _ in range(4):
            owner = random_scalar(source)
            asked, pending = ecash.withdraw(self.parameters, owner, self.expiry, source.randrange(256), b"", source)
            shares = [
                unblind(issuer, pending, ecash.issue(self.parameters, secret, asked))
                for issuer, secret in list(zip(dealt.issuers, dealt.secrets))[:2]
            ]
            self.books.append(ecash.ticket_book(pending, shares, 2))

    def pay(self, source, book, numbers=None):
        """A payment with some tickets on some day, its info and the day."""
        numbers = numbers or source.sample(range(TICKETS), source.choice((1, 1, 1, 2, 3)))
        day = source.randrange(self.first, self.expiry + 1)
        info = ecash.PaymentInfo(source.randbytes(32), source.getrandbits(64), source.randbytes(16))
        payment = ecash.pay_with(self.parameters, self.key, book, numbers, self.helpers, info, day, source)
        return payment, info, day


def test_payments_made_here_are_verified_there(rust, source):
    bank = Bank(source)
    key = bank.key.to_bytes()
    for number in range(CASES):
        payment, info, day = bank.pay(source, source.choice(bank.books), range(TICKETS) if number == 0 else None)
        data = payment.to_bytes()
        serials = ",".join(serial.hex() for serial in payment.serials)
        assert rust.ask("payment", TICKETS, key, data, info.to_bytes(), day) == (True, serials)
        ecash.verify_payment(bank.parameters, bank.key, ecash.Payment.from_bytes(data), info, day, source)


def test_altered_payments_are_refused_by_both(rust, source):
    bank = Bank(source)
    key = bank.key.to_bytes()
    for number in range(CASES):
        payment, info, day = bank.pay(source, source.choice(bank.books))
        data, told = payment.to_bytes(), info.to_bytes()
        if number % 5 == 0:
            day += 1
        elif number % 5 == 1:
            told = altered(source, told)
        else:
            data = altered(source, data)
        if (data, told) == (payment.to_bytes(), info.to_bytes()) and number % 5:
            continue

        def check():
            parsed = ecash.Payment.from_bytes(data), ecash.PaymentInfo.from_bytes(told)
            ecash.verify_payment(bank.parameters, bank.key, *parsed, day, source)

        assert (accepted(check), rust.ask("payment", TICKETS, key, data, told, day)[0]) == (False, False), data.hex()


def test_both_find_the_double_spender(rust, source):
    bank = Bank(source)
    for book in bank.books:
        twice, *others = source.sample(range(TICKETS), 4)
        first, second = bank.pay(source, book, [others[0], twice]), bank.pay(source, book, [twice, *others[1:]])
        spender = encode(G1_BASE * book.owner)
        found = ecash.identify(*first[:2], *second[:2])
        assert (found.finding, found.spender) == (ecash.Finding.DOUBLE, spender)
        words = [each.to_bytes() for each in (*first[:2], *second[:2])]
        assert rust.ask("identify", *words) == (True, f"double {spender.hex()}")
        assert rust.ask("identify", *words[:2], *words[:2]) == (True, "replay")
    apart = bank.pay(source, bank.books[0])[:2], bank.pay(source, bank.books[1])[:2]
    assert rust.ask("identify", *(each.to_bytes() for pair in apart for each in pair)) == (True, "apart")


def test_the_known_answers_hold_there_too(rust):
    vectors = HERE.parent.parent / "vectors"
    file = json.loads((vectors / "credentials-coconut.json").read_text())
    words = (file["keys"]["verification_key"], file["show"], file["show_context"])
    assert rust.ask("show", 2, 2, *words) == (True, file["nullifier"])
    file = json.loads((vectors / "credentials-ecash.json").read_text())
    for each in file["payments"]:
        words = (file["keys"]["verification_key"], each["payment"], each["info"], each["day"])
        assert rust.ask("payment", TICKETS, *words) == (True, ",".join(each["serials"]))
    words = [each[name] for each in file["payments"] for name in ("payment", "info")]
    assert rust.ask("identify", *words) == (True, f"double {file['spender']}")
