"""A watcher's rounds over a chain in memory: what is credited, what never is, and what becomes of every fault."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ethereum_world import PIPE, TOKEN, FakeEthereum, piped, transfer

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from embedded_world import EmbeddedWorld
from ledger_world import ALICE, BOB, ETHEREUM, WATCHERS

from nymtw.errors import ConfigError, EthereumError, EthereumRefused, LedgerError
from nymtw.ethereum.agreed import AgreedNode
from nymtw.ledger import clients
from nymtw.pipe.watcher.progress import Progress
from nymtw.pipe.watcher.watching import Watching

DEPTH = 3
ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


class Watch:
    """Watchers of one ledger, each with its own view of Ethereum."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = EmbeddedWorld(folder / "ledger.sqlite")
        self.ethereum = FakeEthereum()
        self.watchers = [self.watcher(number) for number in range(3)]

    def watcher(self, number: int, node: Any = None, key: Any = None, start: int = 0, **options: Any) -> Watching:
        """A new process of the same watcher, as far as its files tell."""
        progress = Progress(self.folder / f"progress-{number}.json", start)
        key = key or WATCHERS[number]
        return Watching(node or self.ethereum.node, self.world.ledger, key, progress, DEPTH, **options)

    def round(self, *numbers: int) -> None:
        """One round of these watchers; of the first two where none is named."""
        for number in numbers or (0, 1):
            self.world.wait(self.watchers[number].round())

    def balance(self, key: Any = ALICE) -> int:
        found = self.world.wait(clients.account(self.world.ledger, key.address))
        return found.balance if found else 0

    def notarised(self) -> int:
        return int(self.world.wait(clients.totals(self.world.ledger)).notarised)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path)
    yield watch
    watch.world.replica.audit()
    watch.world.stop()


def test_both_ways_in_after_the_confirmations(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), (TWO, piped(ALICE.address, BOB.address, 7)))
    watch.ethereum.mine(count=DEPTH - 1)
    watch.round()
    assert watch.notarised() == 0
    watch.ethereum.mine()
    watch.round()
    assert (watch.balance(ALICE), watch.balance(BOB)) == (5, 7)
    watch.round(0, 1, 2)  # nothing is credited again
    assert watch.notarised() == 12
    assert watch.watchers[0].votes == watch.watchers[1].votes == 2
    assert watch.watchers[2].votes == 0


def test_a_deposit_names_its_place_in_its_transaction(watch: Watch) -> None:
    other = transfer(BOB.address, 9, recipient=b"x" * 20)
    watch.ethereum.mine(
        (THREE, [other]), (ONE, [other, *piped(ALICE.address, BOB.address, 1), transfer(BOB.address, 2)])
    )
    watch.ethereum.mine(count=DEPTH)
    watch.round()
    for index, amount in ((2, 1), (3, 2)):
        found = watch.world.wait(clients.deposit(watch.world.ledger, ETHEREUM, ONE, index))
        assert (found.account, found.amount) == (BOB.address, amount)
    assert watch.notarised() == 3


@pytest.mark.parametrize(
    "logs",
    [
        [transfer(ALICE.address, 0)],
        [transfer(ALICE.address, 5, recipient=b"x" * 20)],
        [transfer(ALICE.address, 5, token=b"x" * 20)],
        [transfer(bytes(20), 5)],
        [transfer(PIPE, 5)],
        piped(ALICE.address, BOB.address, 5)[1:],  # the pipe's log without any transfer
    ],
    ids=["nothing", "to others", "another token", "from nobody", "from the pipe itself", "no transfer"],
)
def test_what_is_no_deposit(watch: Watch, logs: Any) -> None:
    watch.ethereum.mine((ONE, logs), count=DEPTH + 1)
    watch.round()
    assert watch.notarised() == 0
    assert watch.watchers[0].progress.last == 1


def test_a_deposit_seen_by_too_few_is_not_credited(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.round(0)
    assert watch.watchers[0].votes == 1
    watch.round(0)
    assert watch.notarised() == 0
    watch.round(2)
    assert watch.notarised() == 5


def test_a_watcher_whose_node_lies_credits_nothing_alone(watch: Watch) -> None:
    liar = watch.ethereum.copy()
    liar.mine((ONE, [transfer(ALICE.address, 10**6)]), count=DEPTH + 1)
    watch.watchers[0] = watch.watcher(0, liar.node)
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.round(0, 1)
    assert watch.watchers[0].votes == 1
    assert watch.notarised() == 0
    watch.round(2)
    assert watch.balance() == 5


def test_a_reorganisation_that_is_not_deep_changes_nothing(watch: Watch) -> None:
    number = watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]))
    watch.ethereum.mine(count=DEPTH - 1)
    watch.round()
    watch.ethereum.roll_back(number - 1)
    watch.ethereum.mine((TWO, [transfer(BOB.address, 6)]), count=DEPTH + 2)
    watch.round()
    assert (watch.balance(ALICE), watch.balance(BOB)) == (0, 6)
    assert watch.watchers[0].reorganisations == 0


def test_a_deep_reorganisation_credits_nothing_twice_and_loses_nothing(watch: Watch) -> None:
    first = watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]))
    watch.ethereum.mine(count=DEPTH)
    watch.round()
    assert watch.balance() == 5
    watch.ethereum.roll_back(first - 1)
    watch.ethereum.mine((TWO, [transfer(BOB.address, 6)]))
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]))  # the same transaction, in a later block
    watch.ethereum.mine(count=DEPTH)
    watch.round()
    assert (watch.balance(ALICE), watch.balance(BOB)) == (5, 6)
    assert watch.watchers[0].reorganisations == 1
    assert watch.watchers[0].vanished == 0
    assert watch.watchers[0].progress.doubtful == ()


def test_a_vote_from_before_a_reorganisation_is_said_again_for_the_new_block(watch: Watch) -> None:
    first = watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]))
    watch.ethereum.mine(count=DEPTH)
    watch.round(0)  # a vote for the old block
    watch.ethereum.roll_back(first - 1)
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.round(1)
    assert watch.notarised() == 0  # two watchers, but not of the same block
    watch.round(0)
    assert watch.notarised() == 5


def test_a_deposit_that_a_deep_reorganisation_took_away_is_told(watch: Watch) -> None:
    first = watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.round()
    watch.ethereum.roll_back(first - 1)
    watch.ethereum.mine(count=DEPTH)
    watch.round(0)
    assert watch.watchers[0].vanished == 0  # it may come again: not all that was done is done anew
    watch.watchers[0] = watch.watcher(0)  # and a restart forgets nothing of it
    watch.ethereum.mine(count=2)
    watch.round(0)
    assert watch.watchers[0].vanished == 1
    watch.round(0)
    assert watch.watchers[0].vanished == 1


def test_another_chain_altogether_is_read_from_the_beginning(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 4)
    watch.round()
    watch.ethereum.roll_back(-1)
    watch.ethereum.mine()
    watch.ethereum.mine((TWO, [transfer(BOB.address, 6)]), count=DEPTH + 1)
    watch.round()
    assert (watch.balance(ALICE), watch.balance(BOB)) == (5, 6)


def test_a_node_that_is_behind_after_its_restart_is_waited_for(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 4)
    watch.round()
    later = watch.ethereum.copy()
    watch.ethereum.roll_back(2)
    watch.round()
    assert watch.watchers[0].reorganisations == 0
    watch.ethereum.blocks = later.blocks
    watch.ethereum.mine((TWO, [transfer(ALICE.address, 1)]), count=DEPTH + 1)
    watch.round()
    assert watch.balance() == 6


def test_a_restart_in_the_middle(watch: Watch) -> None:
    """Between the vote and the note of it in the watcher's own file."""
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.round(0)
    (watch.folder / "progress-0.json").unlink()
    watch.watchers[0] = watch.watcher(0)
    watch.round(0)
    assert watch.notarised() == 0  # its own vote counts once
    watch.round(1)
    assert watch.balance() == 5
    watch.watchers = [watch.watcher(number) for number in range(3)]
    assert watch.watchers[0].progress.last == 1
    watch.ethereum.mine((TWO, [transfer(ALICE.address, 1)]), count=DEPTH + 1)
    watch.round()
    assert watch.balance() == 6


def test_many_deposits_come_into_few_blocks_of_the_ledger(watch: Watch) -> None:
    logs = [transfer(ALICE.address, 1) for _ in range(150)]
    watch.ethereum.mine((ONE, logs), count=DEPTH + 1)
    watch.round()
    assert watch.balance() == 150
    assert watch.world.replica.height <= 6


def test_logs_that_a_node_has_pruned_are_found_in_its_receipts(watch: Watch) -> None:
    watch.ethereum.lies["eth_getLogs"] = lambda truth: []
    watch.ethereum.mine((ONE, piped(ALICE.address, BOB.address, 7)), count=DEPTH + 1)
    watch.round()
    assert watch.balance(BOB) == 7


def refused(*_: Any) -> Any:
    raise EthereumRefused(-32000, "pruned history unavailable")


def test_a_node_that_has_neither_logs_nor_receipts_is_waited_for(watch: Watch) -> None:
    watch.ethereum.lies.update(eth_getLogs=refused, eth_getBlockReceipts=refused)
    watch.ethereum.mine((ONE, piped(ALICE.address, BOB.address, 7)), count=DEPTH + 4)
    with pytest.raises(EthereumError, match="neither logs nor receipts of block 1"):
        watch.round(0)
    assert watch.watchers[0].progress.last == -1
    watch.ethereum.lies.clear()
    watch.round()
    assert watch.balance(BOB) == 7


def test_a_node_that_gives_few_blocks_at_a_time(watch: Watch) -> None:
    def few(truth: Any) -> Any:
        if len(truth) > 1:
            raise EthereumRefused(-32005, "query returned more than 1 result")
        return truth

    watch.ethereum.lies["eth_getLogs"] = few
    for number in range(4):
        watch.ethereum.mine((bytes([9, number]) * 16, [transfer(ALICE.address, 1)]))
    watch.ethereum.mine(count=DEPTH)
    watch.round()
    assert watch.balance() == 4


def _moved(truth: Any) -> Any:
    return [{**each, "blockHash": "0x" + "77" * 32} for each in truth]


def _from_outside(truth: Any) -> Any:
    return [{**each, "blockNumber": "0xffff"} for each in truth]


def _richer(truth: Any) -> Any:
    return [{**each, "data": "0x" + "11" * 32} for each in truth]


def _of_another_token(truth: Any) -> Any:
    return [{**each, "address": "0x" + "99" * 20} for each in truth]


@pytest.mark.parametrize(
    ("method", "lie"),
    [
        ("eth_getLogs", _moved),
        ("eth_getLogs", _from_outside),
        ("eth_getLogs", _richer),
        ("eth_getLogs", _of_another_token),
        ("eth_getLogs", lambda truth: [{**truth[0], "removed": True}]),
        ("eth_getLogs", lambda truth: {"logs": truth}),
        ("eth_getLogs", lambda truth: [1, None]),
        ("eth_getLogs", lambda truth: truth * 30_000),
        ("eth_getTransactionReceipt", lambda truth: None),
        ("eth_getTransactionReceipt", lambda truth: {**truth, "status": "0x0"}),
        ("eth_getTransactionReceipt", lambda truth: {**truth, "transactionHash": "0x" + "02" * 32}),
        ("eth_getTransactionReceipt", lambda truth: {**truth, "logs": []}),
        ("eth_getTransactionReceipt", lambda truth: "yes"),
        ("eth_getBlockByNumber", lambda truth: truth and {**truth, "number": "0x1"}),
        ("eth_getBlockByNumber", lambda truth: truth and {**truth, "parentHash": "0x" + "55" * 32}),
        ("eth_getBlockByNumber", lambda truth: truth and {**truth, "logsBloom": "0x00"}),
        ("eth_getBlockByNumber", lambda truth: []),
        ("eth_blockNumber", lambda truth: "0x" + "f" * 100),
        ("eth_blockNumber", lambda truth: 7),
        ("eth_blockNumber", lambda truth: "0x_1"),
        ("eth_chainId", lambda truth: "0x1"),
        ("eth_chainId", lambda truth: None),
        ("eth_call", lambda truth: "0x"),
        ("eth_call", lambda truth: "0x" + "ff" * 32),
    ],
)
def test_nonsense_is_an_error_and_nothing_is_credited(watch: Watch, method: str, lie: Any) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.ethereum.lies[method] = lie
    for number in (0, 1):
        with pytest.raises(EthereumError):
            watch.round(number)
    assert watch.notarised() == 0
    watch.ethereum.lies.clear()
    watch.round()
    assert watch.balance() == 5


def test_a_node_that_answers_nothing(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    watch.ethereum.down = True
    with pytest.raises(EthereumError):
        watch.round(0)
    watch.ethereum.down = False
    watch.round()
    assert watch.balance() == 5


def test_of_several_nodes_none_is_believed_alone(watch: Watch) -> None:
    honest = watch.ethereum.copy()
    watch.watchers[0] = watch.watcher(0, AgreedNode([watch.ethereum.node, honest.node]))
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 10**6)]), count=DEPTH + 1)
    honest.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 1)
    with pytest.raises(EthereumError, match="do not say the same"):
        watch.round(0)
    honest.blocks = watch.ethereum.copy().blocks
    watch.round(0)
    assert watch.watchers[0].votes == 1
    honest.down = True
    with pytest.raises(EthereumError, match="nobody answers"):
        watch.round(0)


def test_what_the_chain_has_finalised(watch: Watch) -> None:
    watch.watchers = [watch.watcher(number, finalized=True) for number in range(2)]
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]), count=DEPTH + 20)
    watch.round()
    assert watch.notarised() == 0
    watch.ethereum.finalized = 1
    watch.round()
    assert watch.balance() == 5


def test_what_is_before_the_start_is_not_looked_at(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5)]))
    watch.ethereum.mine((TWO, [transfer(ALICE.address, 7)]), count=DEPTH + 1)
    watch.watchers = [watch.watcher(number, start=2) for number in range(2)]
    watch.round()
    assert watch.balance() == 7


def test_more_than_the_ledger_can_count_is_passed_over(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 2**128), transfer(ALICE.address, 2**127)]), count=DEPTH + 1)
    watch.ethereum.mine((TWO, [transfer(ALICE.address, 2**127)]), count=DEPTH + 1)  # more than that in all
    watch.round()
    assert watch.balance() == 2**127
    assert watch.watchers[0].unusable == 1
    assert watch.watchers[0].progress.last == watch.ethereum.head - DEPTH


def test_who_is_no_watcher_says_so(watch: Watch) -> None:
    with pytest.raises(LedgerError, match="is no watcher"):
        watch.world.wait(watch.watcher(7, key=ALICE).round())


def test_progress_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    path.write_text('{"start": "x"}')
    with pytest.raises(ConfigError, match=r"progress\.json"):
        Progress(path, 0)


def test_the_token_is_the_one_of_the_pipe(watch: Watch) -> None:
    watch.ethereum.mine((ONE, [transfer(ALICE.address, 5, token=TOKEN)]), count=DEPTH + 1)
    watch.round()
    assert watch.balance() == 5
