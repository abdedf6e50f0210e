"""The wallet's commands over a ledger in memory."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nymtw.client import commands
from nymtw.client.wallet import Wallet, amount_text, parse_amount
from nymtw.errors import ConfigError, EncodingError, KeyFileError, TransactionRefused
from nymtw.node.home import NodeHome

pytest.importorskip("coincurve", reason="needs nymtw[ledger]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from embedded_world import EmbeddedWorld
from ledger_world import BOB, WATCHERS, deposit

from nymtw.ledger import clients
from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import address_text, parse_address


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EmbeddedWorld]:
    world = EmbeddedWorld(tmp_path / "ledger.sqlite")
    yield world
    world.stop()


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 10**18),
        ("1.5", 15 * 10**17),
        ("0.000000000000000001", 1),
        ("123456789", 123456789 * 10**18),
        ("0.10", 10**17),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_amount(text) == amount
    assert parse_amount(amount_text(amount)) == amount


@pytest.mark.parametrize("text", ["", ".", "-1", "1e3", "1.0000000000000000001", "1,5", "²", "9" * 30])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_amount(text)


def test_an_account_from_beginning_to_end(world: EmbeddedWorld, tmp_path: Path) -> None:
    progress: list[str] = []
    home = NodeHome("client", "alice", tmp_path)
    wallet = Wallet(world.ledger, home, 30.0, progress.append)

    def do(answer: Any) -> Any:
        return world.wait(answer)

    with pytest.raises(KeyFileError):
        do(wallet.balance())
    made = do(wallet.new())
    address = parse_address(made["address"])
    assert made["height"] == 1
    assert len(progress) == 2
    assert do(wallet.new()) == {"address": made["address"]}  # the same key, the same account
    assert (home.config / "account_private_key.pem").stat().st_mode & 0o77 == 0
    for watcher in WATCHERS[:2]:
        do(clients.send(world.ledger, watcher, "notarise-deposit", deposit(address, 5 * 10**18)))
    do(clients.send(world.ledger, BOB, "new-account", NewAccount()))
    assert do(wallet.send("1.5", address_text(BOB.address)))["balance"] == "3.5"
    assert do(wallet.withdraw("0.5"))["balance"] == "3"
    assert do(clients.withdrawal(world.ledger, 1)).recipient == address
    assert do(wallet.balance(address_text(BOB.address)))["balance"] == "1.5"
    with pytest.raises(TransactionRefused) as refused:
        do(wallet.send("4", address_text(BOB.address)))
    assert refused.value.code == Refusal.INSUFFICIENT
    with pytest.raises(EncodingError, match="letter"):
        do(wallet.send("1", made["address"].swapcase().replace("X", "x")))


@pytest.mark.parametrize(
    "words",
    [[], ["steal"], ["send", "1"], ["withdraw"], ["new", "x"], ["balance", "--ledger=nonsense"], ["balance"]],
)
def test_one_line_for_what_cannot_be(monkeypatch: pytest.MonkeyPatch, capfd: Any, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["nym-client", "wallet", *words])
    assert commands.main() == 1
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
