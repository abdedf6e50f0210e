"""The contract over real processes, and their death in every phase: nothing is lost, doubled or different."""

import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_contract import LedgerContract
from ledger_processes import BlockingClient, Testnet, ValidatorProcess, eventually, needs_cometbft, result_of
from ledger_world import ALICE, CHAIN, WATCHERS, deposit

from nymtw.ledger import clients
from nymtw.ledger.light import LightLedger
from nymtw.ledger.machine.state import Totals
from nymtw.ledger.machine.transactions import encode_transaction
from nymtw.validator.setup import genesis_file, write_genesis

pytestmark = pytest.mark.integration


class TestEmbeddedProcess(LedgerContract):
    @pytest.fixture
    def under(self, tmp_path: Path) -> Iterator[Testnet]:
        net = Testnet(tmp_path, "embedded")
        net.start()
        yield net
        net.stop()


@needs_cometbft
class TestCometBFTProcess(LedgerContract):
    @pytest.fixture
    def under(self, tmp_path: Path) -> Iterator[Testnet]:
        net = Testnet(tmp_path, "cometbft")
        net.start()
        yield net
        net.stop()


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Testnet]:
    net = Testnet(tmp_path, "cometbft", 4)
    net.start()
    yield net
    net.stop()


def notarise(net: Testnet, number: int, watcher: int = 0, patience: float = 60.0) -> Any:
    fields = deposit(ALICE.address, 5, number)
    return net.wait(clients.send(net.ledger, WATCHERS[watcher], "notarise-deposit", fields, patience))


def assert_same_everywhere(net: Testnet) -> None:
    """All nodes come to one height, and every height has one root."""
    top = max(node.height for node in net.nodes)
    for node in net.nodes:
        eventually(lambda node=node: node.height >= top)
    found: dict[int, set[bytes]] = {}
    for node in net.nodes:
        for height, root in node.roots().items():
            found.setdefault(height, set()).add(root)
    assert all(len(roots) == 1 for roots in found.values()), found


@needs_cometbft
@pytest.mark.timeout(900)
def test_nodes_die_in_every_phase(four: Testnet, seed: int) -> None:
    """kill -9 of applications and of CometBFT, at moments that fall anywhere in a block."""
    chance = random.Random(seed)
    credited = 0
    for number in range(1, 13):
        victim = chance.choice(four.nodes[1:])
        fields = deposit(ALICE.address, 5, number)
        for watcher in WATCHERS[:2]:
            nonce = eventually(lambda key=watcher: [result_of(four.nodes[0].ledger.next_nonce(key.address))])[0]
            data = encode_transaction(watcher, CHAIN, "notarise-deposit", nonce, fields)
            name = result_of(four.nodes[0].ledger.submit(data))
            how = chance.randrange(3)
            let_go_by(chance.random() * 0.6)
            if how == 0:
                victim.kill_cometbft()
            elif how == 1:
                victim.kill()
            place = eventually(lambda name=name: result_of(four.nodes[0].ledger.result(name, 5.0)))
            assert place.code == 0
            if victim.process is None:
                victim.start()
            top = four.nodes[0].height
            eventually(lambda victim=victim, top=top: victim.height >= top)
        credited += 5
    assert four.wait(clients.totals(four.ledger)) == Totals(notarised=credited, balances=credited)
    assert_same_everywhere(four)


def let_go_by(seconds: float) -> None:
    """The moment of a kill is what varies here."""
    time.sleep(seconds)


@needs_cometbft
@pytest.mark.timeout(600)
def test_one_dead_of_four_and_two(four: Testnet) -> None:
    notarise(four, 1)
    four.nodes[3].kill()
    assert notarise(four, 1, 1).code == 0  # blocks go on
    four.nodes[2].kill()
    height = four.nodes[0].height
    data = encode_transaction(WATCHERS[2], CHAIN, "notarise-deposit", 0, deposit(ALICE.address, 5, 2))
    name = result_of(four.nodes[0].ledger.submit(data))
    assert result_of(four.nodes[0].ledger.result(name, 8.0)) is None  # they do not
    assert four.nodes[0].height <= height + 1
    four.nodes[2].start()
    assert eventually(lambda: result_of(four.nodes[0].ledger.result(name, 5.0))).code == 0
    four.nodes[3].start()
    eventually(lambda: four.nodes[3].height >= four.nodes[0].height)
    assert_same_everywhere(four)
    # A client that knows the genesis alone believes what was proved, whichever node says it.
    for node in four.nodes:
        light = LightLedger(node.ledger, four.trust)
        assert result_of(clients.account(light, ALICE.address)).balance == 5


@needs_cometbft
@pytest.mark.timeout(600)
def test_an_application_that_has_lost_its_state_is_replayed(four: Testnet) -> None:
    for number in range(1, 4):
        notarise(four, number)
    lost = four.nodes[3]
    lost.kill(signal.SIGTERM)
    for path in lost.home.data.glob("ledger.sqlite*"):
        path.unlink()
    lost.start()
    eventually(lambda: lost.height >= four.nodes[0].height)
    assert_same_everywhere(four)


def tamper(node: ValidatorProcess) -> None:
    """Somebody gives himself money in the file."""
    with sqlite3.connect(node.home.data / "ledger.sqlite") as database:
        rows = database.execute("SELECT hash, body FROM nodes WHERE substr(body, 1, 1) = x'00'").fetchall()
        mine = [row for row in rows if b"account/" + WATCHERS[0].address in row[1]]
        [(key, body)] = [row for row in mine if row[1].endswith(b"\x82\x00\x01")]
        database.execute("UPDATE nodes SET body=? WHERE hash=?", (body[:-2] + b"\x17\x01", key))


@pytest.mark.parametrize("consensus", ["embedded", pytest.param("cometbft", marks=needs_cometbft)])
def test_a_state_that_was_tampered_with_stops_the_node(tmp_path: Path, consensus: str) -> None:
    net = Testnet(tmp_path, consensus, 1, "--keep-states=10")
    net.start()
    notarise(net, 1)
    net.stop()
    [node] = net.nodes
    tamper(node)
    node.start()
    assert node.process is not None
    assert node.process.wait(60) == 1
    node.process = None
    assert "was changed" in node.output


def test_killed_while_it_writes(tmp_path: Path, seed: int) -> None:
    """The embedded ledger: whatever was said to be in a block is in it after kill -9."""
    chance = random.Random(seed)
    net = Testnet(tmp_path, "embedded")
    net.start()
    [node] = net.nodes
    for number in range(1, 7):
        place = notarise(net, number)
        let_go_by(chance.random() * 0.2)
        node.kill()
        node.start()
        eventually(lambda place=place: node.height >= place.height)
    ballots = net.wait(clients.account(net.ledger, WATCHERS[0].address))
    assert ballots.nonce == 6
    net.stop()


@needs_cometbft
@pytest.mark.timeout(600)
def test_a_node_that_joins_begins_from_a_snapshot(tmp_path: Path) -> None:
    net = Testnet(tmp_path, "cometbft", 2, "--snapshot-blocks=4")
    net.start()
    number = 0
    while net.nodes[0].height < 14:
        number += 1
        notarise(net, number)
    first, second = net.nodes
    rpc = BlockingClient(f"http://127.0.0.1:{first.rpc}")
    _, shown = result_of(rpc.get("/commit?height=3", 20.0))
    joins = ValidatorProcess(
        tmp_path,
        9,
        "cometbft",
        *(f"--state-sync=http://127.0.0.1:{node.rpc}" for node in net.nodes),
        "--trust-height=3",
        f"--trust-hash={shown['result']['signed_header']['commit']['block_id']['hash']}",
    )
    write_genesis(genesis_file(joins.home), net.genesis)
    joins.peers = [first.peer, second.peer]
    net.nodes.append(joins)
    joins.start()
    eventually(lambda: joins.height >= 8)
    assert "is restored" in joins.output
    notarise(net, number + 1)
    assert_same_everywhere(net)
    assert min(joins.roots()) >= 4  # it has not executed the first blocks
    assert result_of(clients.account(joins.ledger, WATCHERS[0].address)).nonce == number + 1
    net.stop()
