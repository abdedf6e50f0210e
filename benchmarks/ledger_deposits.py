"""How long a transfer on Ethereum takes to the balance on the ledger, beyond the confirmations, and what each role's
memory is: `python benchmarks/ledger_deposits.py [--consensus cometbft] [--ethereum anvil] [--deposits N]`.

The processes of `nymtw localnet --validators`, without the mixnet; prints JSON. The time begins when the block is
there that makes the transfer's deep enough for the watchers, as a client sees it, which asks 20 times a second; it
ends when the ledger shows the balance.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from nymtw.client.wallet import Wallet
from nymtw.ethereum.contracts import address_word, call_data, number_word, pipe_deposits, read_address
from nymtw.ethereum.transactions import TransactionSender
from nymtw.ledger import clients
from nymtw.ledger.machine.signatures import parse_address
from nymtw.localnet.processes import Processes
from nymtw.localnet.validators import CONFIRMATIONS, Plan, ValidatorSide
from nymtw.node.home import NodeHome, private_folder
from nymtw.pipe.faucet.service import smallest_units

ASK = 0.05  # seconds


class Deposits:
    """One network, and a client that transfers again and again."""

    def __init__(self, reactor: Any, folder: Path, plan: Plan) -> None:
        self._reactor = reactor
        home = private_folder(folder / "home")
        self._processes = Processes(reactor, home, private_folder(folder / "logs"))
        self._side = ValidatorSide(reactor, folder, home, self._processes, plan, "", 300.0, False)
        self._home = NodeHome("client", "alice", home)

    async def measure(self, count: int) -> dict[str, Any]:
        try:
            await self._side.start()
            took = await self._latencies(count)
            memory = {process.component.name: resident(process.popen.pid) for process in self._processes}
        finally:
            await self._processes.stop(30.0)
        return {
            "deposits": count,
            "confirmations": CONFIRMATIONS,
            "median_s": round(median(took), 2),
            "longest_s": round(max(took), 2),
            "memory_mib": {name: memory[name] for name in sorted(memory)},
        }

    async def _latencies(self, count: int) -> list[float]:
        ledger, node = self._side.ledger(), self._side.node
        wallet = Wallet(ledger, self._home, 120.0, lambda text: None, (self._reactor, node, self._post))
        address = parse_address((await wallet.new())["address"])
        await wallet.faucet(self._side.faucet_url)
        parameters = await clients.parameters(ledger)
        token = read_address(await node.call(parameters.pipe, call_data("token()")))
        sender = TransactionSender(self._reactor, node, wallet.key(), parameters.ethereum_chain)
        words = address_word(parameters.pipe), number_word(smallest_units(0.5))
        found = []
        for _ in range(count):
            signed = await sender.send(token, call_data("transfer(address,uint256)", *words))
            receipt = await self._until(lambda signed=signed: node.receipt(signed.hash))
            await self._until(lambda receipt=receipt: self._is_deep(receipt.number))
            start = self._reactor.seconds()
            [deposit] = pipe_deposits(receipt.logs, parameters.pipe, token)
            place = parameters.ethereum_chain, signed.hash, deposit.log_index
            await self._until(lambda place=place: clients.deposit(ledger, *place))
            found.append(self._reactor.seconds() - start)
        account = await clients.account(ledger, address)
        assert account is not None
        assert account.balance == count * smallest_units(0.5)
        await ledger.close()
        return found

    async def _is_deep(self, number: int) -> bool:
        head: int = await self._side.node.head()
        return head >= number + CONFIRMATIONS

    async def _until(self, ask: Any) -> Any:
        while not (found := await ask()):
            await deferLater(self._reactor, ASK, lambda: None)
        return found

    async def _post(self, url: str, body: Any) -> tuple[int, Any]:
        from nymtw.ledger.rpc.http import JSONClient

        client = JSONClient(self._reactor, url)
        try:
            return await client.post("/give", json.dumps(body).encode(), "application/json", 60.0)
        finally:
            await client.close()


def resident(pid: int) -> int:
    """Resident, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--consensus", default="embedded")
    parser.add_argument("--ethereum", default="evm")
    parser.add_argument("--deposits", type=int, default=20)
    arguments = parser.parse_args()
    plan = Plan(arguments.consensus, arguments.ethereum)

    async def work(reactor: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="nymtw-deposits-") as folder:
            print(json.dumps(await Deposits(reactor, Path(folder), plan).measure(arguments.deposits)))

    react(lambda reactor: Deferred.fromCoroutine(work(reactor)))


if __name__ == "__main__":
    sys.exit(main())
