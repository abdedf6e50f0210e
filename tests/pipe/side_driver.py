"""Runs the validator side as processes and prints, as one JSON object, what came of it: python side_driver.py DIR
CONSENSUS ETHEREUM SCENARIO...
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from nymtw.client.wallet import Wallet
from nymtw.errors import NymtwError
from nymtw.ledger import clients
from nymtw.localnet.processes import Processes, sleep
from nymtw.localnet.token_flow import TokenFlow
from nymtw.localnet.validators import Plan, ValidatorSide
from nymtw.node.home import NodeHome, private_folder


class Driver:
    """One validator side, and what is tried on it; each scenario returns what its test looks at."""

    def __init__(self, reactor: Any, folder: Path, plan: Plan) -> None:
        self._reactor = reactor
        self._folder, self._plan = folder, plan
        self._home = private_folder(folder / "home")
        self._begin()

    def _begin(self) -> None:
        self._processes = Processes(self._reactor, self._home, private_folder(self._folder / "logs"))
        self._side = ValidatorSide(
            self._reactor, self._folder, self._home, self._processes, self._plan, "", 240.0, False
        )

    async def run(self, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            await self._side.start()
            for name in names:
                found[name] = await getattr(self, name)()
        finally:
            found["had_to_be_killed"] = await self._processes.stop(30.0)
        return found

    async def in_and_out(self) -> Any:
        """Tokens come in and go out."""
        return {"said": await self._flow("alice"), **await self._totals()}

    async def killed(self) -> Any:
        """kill -9 of watchers, a redeemer and the chain of Ethereum, with a deposit under way."""
        await self._flow("bob")
        before = await self._totals()
        ledger = self._side.ledger()
        wallet = Wallet(ledger, self._client("bob"), 120.0, print_nothing, (self._reactor, self._side.node, None))
        piping = Deferred.fromCoroutine(wallet.pipe("0.25"))
        await sleep(self._reactor, 0.3)
        for name in ("watcher-1", "watcher-2", "ethereum", "redeemer-1"):
            component = self._processes[name].component
            os.kill(self._processes[name].popen.pid, signal.SIGKILL)
            self._processes[name].popen.wait()
            self._processes.start(component)
        done = await piping
        await self._flow("carol")  # all of them do their work again
        return {"balance": done["balance"], "before": before, "after": await self._totals()}

    async def reorganised(self) -> Any:
        """Blocks that were read are taken back, the last deposit's among them."""
        before = await self._totals()
        if self._plan.ethereum == "anvil":
            await self._side.node.rpc.call("anvil_reorg", 5, [])
        else:
            await self._side.node.rpc.call("evm_rollback", "0x5")
            await self._side.node.rpc.call("evm_mine", "0x8")
        await self._flow("dave")
        return {"before": before, "after": await self._totals()}

    async def restarted(self) -> Any:
        """Everything is stopped, and started again over the same folder."""
        before = await self._totals()
        killed = await self._processes.stop(30.0)
        self._begin()
        await self._side.start()
        await self._flow("erin")
        return {"before": before, "after": await self._totals(), "killed": killed}

    async def gone(self) -> Any:
        """The chain of Ethereum was made anew, and the folder's ledger belongs to the old one."""
        await self._processes.stop(30.0)
        for file in (self._home / "devchains" / "ethereum" / "data").iterdir():
            file.unlink()
        self._begin()
        try:
            await self._side.start()
        except NymtwError as error:
            return str(error)
        return "it has started"

    async def _flow(self, name: str) -> list[str]:
        said: list[str] = []
        await TokenFlow(self._reactor, self._side, self._client(name), said.append).run()
        return said

    def _client(self, name: str) -> NodeHome:
        return NodeHome("client", name, self._home)

    async def _totals(self) -> dict[str, Any]:
        ledger = self._side.ledger()
        totals = await clients.totals(ledger)
        await ledger.close()
        return {**totals._asdict(), "conserved": totals.conserved}


def print_nothing(text: str) -> None:
    """Progress that nobody reads."""


def main() -> None:
    folder, consensus, ethereum, *names = sys.argv[1:]

    async def work(reactor: Any) -> None:
        found = await Driver(reactor, Path(folder), Plan(consensus, ethereum)).run(names)
        print(json.dumps(found))

    react(lambda reactor: Deferred.fromCoroutine(work(reactor)))


if __name__ == "__main__":
    main()
