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


class Ethereum:
    """A chain in memory on which the account has tokens, watched by two watchers."""

    def __init__(self, world: EmbeddedWorld, folder: Path) -> None:
        from ethereum_world import FakeEthereum, piped, transfer

        from nymtw.ethereum.contracts import keccak, number_word
        from nymtw.ethereum.node import hex_text, octets
        from nymtw.pipe.watcher.progress import Progress
        from nymtw.pipe.watcher.watching import Watching

        outer = self
        self.world = world
        self.tokens = 10**20
        self.waiting: list[bytes] = []
        self.watched = True

        class Chain(FakeEthereum):
            """Takes the transfer that the wallet signs, and makes its logs."""

            def _answer(self, method: str, parameters: Any) -> Any:
                match method:
                    case "eth_estimateGas" | "eth_maxPriorityFeePerGas":
                        return "0x5208"
                    case "eth_getTransactionCount":
                        return hex(outer.sent)
                    case "eth_sendRawTransaction":
                        raw = octets(parameters[0])
                        outer.waiting.append(keccak(raw))
                        outer.sent += 1
                        return hex_text(keccak(raw))
                    case "eth_call" if parameters[0]["data"][:10] == "0x70a08231":  # balanceOf(address)
                        return hex_text(number_word(outer.tokens))
                    case "eth_call" if parameters[0]["data"][:10] == "0xdd62ed3e":  # allowance(address,address)
                        return hex_text(number_word(0))
                return super()._answer(method, parameters)

        self.sent = 0
        self.chain = Chain()
        self.transfer, self.piped = transfer, piped
        self.watchers = [
            Watching(self.chain.node, world.ledger, key, Progress(folder / f"progress-{number}", 0), 2)
            for number, key in enumerate(WATCHERS[:2])
        ]

    def follow(self, work: Any, logs: Any) -> Any:
        """The result of `work`; a block of Ethereum each second, the watchers' rounds between them."""
        from twisted.internet.defer import Deferred

        done: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(done.append)
        return self.follow_on(done, logs)

    def follow_on(self, done: list[Any], logs: Any) -> Any:
        """The same, for work that has begun."""
        for _ in range(200):
            if done:
                break
            transactions = [(each, logs) for each in self.waiting]
            self.waiting.clear()
            self.chain.mine(*transactions)
            self.world.clock.advance(1.0)
            for each in self.watchers if self.watched else ():
                self.world.wait(each.round())
        [result] = done
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result


@pytest.fixture
def ethereum(world: EmbeddedWorld, tmp_path: Path) -> Ethereum:
    pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
    return Ethereum(world, tmp_path)


def piping(world: EmbeddedWorld, ethereum: Ethereum, folder: Path, said: list[str]) -> Any:
    parts = (world.clock, ethereum.chain.node, None)
    wallet = Wallet(world.ledger, NodeHome("client", "alice", folder), 30.0, said.append, parts)
    world.wait(wallet.new())
    said.clear()
    return wallet


def test_pipe_waits_for_confirmations_and_says_so(world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path) -> None:
    said: list[str] = []
    wallet = piping(world, ethereum, tmp_path, said)
    logs = [ethereum.transfer(wallet.key().address, 15 * 10**17)]
    done = ethereum.follow(wallet.pipe("1.5"), logs)
    assert done["balance"] == "1.5"
    assert len(done["transaction"]) == 66
    assert [line.split(",")[-1].strip() for line in said if line.startswith("In block")] == [
        "0 blocks above it",
        "1 block above it",
        "2 blocks above it",
    ]
    assert said[0].startswith("Sent 0x")
    assert said[-1] == "The watchers have notarised it"


def test_pipe_for_another_account(world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path) -> None:
    said: list[str] = []
    wallet = piping(world, ethereum, tmp_path, said)
    logs = ethereum.piped(wallet.key().address, BOB.address, 10**18)
    assert ethereum.follow(wallet.pipe("1", address_text(BOB.address)), logs)["balance"] in ("1", "2")
    assert said[0] == "Letting the pipe take the tokens"
    assert ethereum.sent == 2


def test_pipe_gives_up_waiting_for_watchers_that_say_nothing(
    world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path
) -> None:
    from nymtw.errors import LedgerError

    said: list[str] = []
    wallet = piping(world, ethereum, tmp_path, said)
    ethereum.watched = False
    with pytest.raises(LedgerError, match="nothing new for 30 seconds"):
        ethereum.follow(wallet.pipe("1"), [ethereum.transfer(wallet.key().address, 10**18)])


def test_pipe_follows_a_transaction_that_a_reorganisation_moves(
    world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path
) -> None:
    from twisted.internet.defer import Deferred

    said: list[str] = []
    wallet = piping(world, ethereum, tmp_path, said)
    logs = [ethereum.transfer(wallet.key().address, 10**18)]
    done: list[Any] = []
    Deferred.fromCoroutine(wallet.pipe("1")).addBoth(done.append)
    [transaction] = ethereum.waiting
    ethereum.waiting.clear()
    number = ethereum.chain.mine((transaction, logs))
    world.clock.advance(1.0)
    ethereum.chain.roll_back(number - 1)
    ethereum.chain.mine(count=2)
    world.clock.advance(1.0)
    assert said[-1] == "It is in no block on Ethereum"
    ethereum.waiting.append(transaction)
    assert ethereum.follow_on(done, logs)["balance"] == "1"


def test_pipe_refuses_what_cannot_be(world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path) -> None:
    wallet = piping(world, ethereum, tmp_path, [])
    with pytest.raises(ConfigError, match="amount of nothing"):
        world.wait(wallet.pipe("0"))
    with pytest.raises(ConfigError, match="smallest units"):
        world.wait(wallet.pipe("101"))
    ethereum.chain.chain = 1
    with pytest.raises(ConfigError, match="is of chain 1"):
        world.wait(wallet.pipe("1"))
    assert ethereum.sent == 0


@pytest.mark.parametrize("answer", [(403, {"error": "too often"}), (200, []), (200, {"transactions": 1}), (500, None)])
def test_a_faucet_that_gives_nothing(world: EmbeddedWorld, ethereum: Ethereum, tmp_path: Path, answer: Any) -> None:
    wallet = piping(world, ethereum, tmp_path, [])

    async def post(url: str, body: Any) -> Any:
        return answer

    poor = Wallet(world.ledger, NodeHome("client", "alice", tmp_path), 30.0, print, (world.clock, None, post))
    with pytest.raises(ConfigError, match="gives nothing"):
        world.wait(poor.faucet())
    assert wallet.key()
