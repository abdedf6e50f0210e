"""Tokens of one client go to the ledger and out again: a line for each step, with the time it took."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nymtw.client.wallet import Wallet
from nymtw.errors import NymtwError
from nymtw.ethereum.contracts import address_word, call_data, read_address, read_number
from nymtw.ledger.rpc.http import JSONClient
from nymtw.localnet.processes import sleep
from nymtw.localnet.validators import ValidatorSide
from nymtw.node.home import NodeHome

_PATIENCE: Final = 60.0  # seconds without any news
_POLL: Final = 0.2
IN, OUT = "1", "0.5"  # tokens


class TokenFlow:
    """What `nymtw localnet --validators` shows. `show(text)` takes each line."""

    def __init__(self, reactor: Any, side: ValidatorSide, home: NodeHome, show: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._side = side
        self._home = home
        self._show = show
        self._ledger = side.ledger()

    async def run(self) -> None:
        """All of it. Raises `NymtwError`."""
        side = self._side
        parts = (self._reactor, side.node, self._post)
        wallet = Wallet(self._ledger, self._home, _PATIENCE, lambda text: None, parts)
        try:
            made = await self._timed("{name} has an account on the ledger: {address}", wallet.new())
            await self._timed("the faucet gave {name} test tokens on Ethereum", wallet.faucet(side.faucet_url))
            await self._timed(
                f"{{name}} transferred {IN} token to the pipe; on the ledger it has {{balance}}", wallet.pipe(IN)
            )
            before = await self._tokens(made["address"])
            await self._timed(f"{{name}} withdrew {OUT}; on the ledger it has {{balance}} now", wallet.withdraw(OUT))
            await self._timed(f"the redeemers released {OUT} on Ethereum", self._more_than(made["address"], before))
        finally:
            await self._ledger.close()

    async def _timed(self, text: str, work: Awaitable[Any]) -> Any:
        start = self._reactor.seconds()
        found = await work
        took = self._reactor.seconds() - start
        said = text.format(**{**(found or {}), "name": self._home.id})
        self._show(f"{took:6.1f} s  {said}")
        return found

    async def _tokens(self, address: str) -> int:
        from nymtw.ledger.machine.signatures import parse_address

        node, pipe = self._side.node, self._side.genesis.parameters.pipe
        token = read_address(await node.call(pipe, call_data("token()")))
        owner = address_word(parse_address(address))
        return read_number(await node.call(token, call_data("balanceOf(address)", owner)))

    async def _more_than(self, address: str, before: int) -> None:
        end = self._reactor.seconds() + _PATIENCE
        while await self._tokens(address) <= before:
            if self._reactor.seconds() > end:
                raise NymtwError(f"the redeemers have released nothing in {_PATIENCE:g} seconds")
            await sleep(self._reactor, _POLL)

    async def _post(self, url: str, body: Any) -> tuple[int, Any]:
        client = JSONClient(self._reactor, url)
        try:
            return await client.post("/give", json.dumps(body).encode(), "application/json", _PATIENCE)
        finally:
            await client.close()
