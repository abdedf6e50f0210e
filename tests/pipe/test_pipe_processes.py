"""The validator side as real processes: tokens in and out, faults of Ethereum and of watchers between.

On py-evm, and with anvil, geth and CometBFT where they are installed.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from ledger_processes import NO_COMETBFT

from nymtw.client.wallet import Wallet
from nymtw.errors import ConfigError, NymtwError
from nymtw.ledger import clients
from nymtw.localnet.processes import Processes, sleep
from nymtw.localnet.token_flow import TokenFlow
from nymtw.localnet.validators import Plan, ValidatorSide
from nymtw.node.home import NodeHome, private_folder
from nymtw.pipe.devchain.program import find_program

pytestmark = [pytest.mark.integration, pytest.mark.evm]


def missing(program: str) -> bool:
    try:
        find_program(program)
    except ConfigError:
        return True
    return False


class Side:
    """One validator side in a folder of its own."""

    def __init__(self, folder: Path, consensus: str, ethereum: str) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.folder, self.plan = folder, Plan(consensus, ethereum)
        self.home = private_folder(folder / "home")
        self.processes: Any = None
        self.side: Any = None

    async def start(self) -> "Side":
        self.processes = Processes(self.reactor, self.home, private_folder(self.folder / "logs"))
        self.side = ValidatorSide(self.reactor, self.folder, self.home, self.processes, self.plan, "", 120.0)
        await self.side.start()
        return self

    async def stop(self) -> list[str]:
        await self.side.node.close()
        killed: list[str] = await self.processes.stop(30.0)
        return killed

    def client(self, name: str) -> NodeHome:
        return NodeHome("client", name, self.home)

    async def flow(self, name: str) -> list[str]:
        said: list[str] = []
        await TokenFlow(self.reactor, self.side, self.client(name), said.append).run()
        return said

    async def mine(self, count: int) -> None:
        await self.side.node.rpc.call("evm_mine", hex(count))

    def restart(self, *names: str) -> None:
        """kill -9, and the same again."""
        for name in names:
            component = self.processes[name].component
            os.kill(self.processes[name].popen.pid, signal.SIGKILL)
            self.processes[name].popen.wait()
            self.processes.start(component)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The path of a Unix socket has few letters.
    return tmp_path_factory.mktemp("side")


@pytest_twisted.async_yield_fixture(scope="module")
async def evm(folder: Path) -> AsyncIterator[Side]:
    side = await Side(folder, "embedded", "evm").start()
    yield side
    assert await side.stop() == []


@pytest_twisted.ensureDeferred
async def test_tokens_come_in_and_go_out(evm: Side) -> None:
    said = await evm.flow("alice")
    assert len(said) == 5
    assert "on the ledger it has 1" in said[2]
    assert "on the ledger it has 0.5 now" in said[3]
    ledger = evm.side.ledger()
    totals = await clients.totals(ledger)
    assert totals.conserved
    assert totals.notarised - totals.released == totals.balances == 5 * 10**17
    await ledger.close()


@pytest_twisted.ensureDeferred
async def test_watchers_killed_with_a_deposit_under_way(evm: Side) -> None:
    """And the chain of Ethereum with them: all go on where they were, and nothing is credited twice."""
    await evm.flow("bob")
    ledger = evm.side.ledger()
    before = (await clients.totals(ledger)).notarised
    wallet = Wallet(ledger, evm.client("bob"), 60.0, lambda text: None, (evm.reactor, evm.side.node, None))
    from twisted.internet.defer import Deferred

    piping = Deferred.fromCoroutine(wallet.pipe("0.25"))
    await sleep(evm.reactor, 0.3)
    evm.restart("watcher-1", "watcher-2", "ethereum", "redeemer-1", "redeemer-2", "redeemer-3")
    done = await piping
    assert done["balance"] == "0.75"
    await evm.mine(5)
    await sleep(evm.reactor, 3.0)
    assert (await clients.totals(ledger)).notarised == before + 25 * 10**16
    await ledger.close()


@pytest_twisted.ensureDeferred
async def test_a_deep_reorganisation_of_a_real_chain(evm: Side) -> None:
    """Blocks that were notarised are taken back, with deposits in them: the ledger credits nothing twice."""
    ledger = evm.side.ledger()
    before = (await clients.totals(ledger)).notarised
    await evm.side.node.rpc.call("evm_rollback", "0x3")
    await evm.mine(6)
    await evm.flow("carol")
    totals = await clients.totals(ledger)
    assert totals.notarised == before + 10**18
    assert totals.conserved
    await ledger.close()


@pytest.mark.skipif(missing("anvil"), reason="anvil is not installed here")
@pytest_twisted.ensureDeferred
async def test_on_anvil(tmp_path: Path) -> None:
    side = await Side(tmp_path, "embedded", "anvil").start()
    try:
        await side.flow("alice")
        ledger = side.side.ledger()
        before = (await clients.totals(ledger)).notarised
        await side.side.node.rpc.call("anvil_reorg", 4, [])
        await side.flow("bob")
        assert (await clients.totals(ledger)).notarised == before + 10**18
        await ledger.close()
    finally:
        assert await side.stop() == []


@pytest.mark.skipif(missing("geth"), reason="geth is not installed here")
@pytest.mark.skipif(bool(NO_COMETBFT), reason="CometBFT is not installed here")
@pytest_twisted.ensureDeferred
async def test_on_geth_and_four_cometbft_nodes(tmp_path: Path) -> None:
    side = await Side(tmp_path, "cometbft", "geth").start()
    try:
        said = await side.flow("alice")
        assert "on the ledger it has 0.5 now" in said[3]
    finally:
        assert await side.stop() == []


@pytest_twisted.ensureDeferred
async def test_a_folder_whose_chain_is_gone_is_refused(evm: Side, tmp_path: Path) -> None:
    from nymtw.node.home import write_file

    write_file(tmp_path / "contracts.json", b'{"chain": 1337, "pipe": "0x' + b"12" * 20 + b'"}')
    other = Side(tmp_path, "embedded", "evm")
    try:
        with pytest.raises(NymtwError, match="is gone"):
            await other.start()
    finally:
        await other.stop()
