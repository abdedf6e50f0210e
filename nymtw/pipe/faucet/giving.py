"""What a faucet gives, to whom and how often. It gives nothing on a chain where tokens are worth something."""

from collections import OrderedDict, deque
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock

from nymtw.errors import EthereumError, NymtwError
from nymtw.ethereum.contracts import address_word, call_data, number_word, read_address
from nymtw.ethereum.node import EthereumNode
from nymtw.ethereum.transactions import Signed, TransactionSender
from nymtw.ledger.machine.signatures import AccountKey

# geth --dev and our own, anvil and Hardhat, Ganache: chains that begin on the machine of whoever tries something.
DEVELOPMENT_CHAINS: Final = frozenset({1337, 31337, 5777})
_REMEMBERED: Final = 10_000  # addresses
_WAITING: Final = 50  # requests at a time


class FaucetRefuses(NymtwError):
    """The faucet gives nothing: the message says why."""


class Giving:
    """Gives `tokens` and `ether` (smallest units of each) to an address, one after the other."""

    def __init__(
        self,
        clock: Any,
        node: EthereumNode,
        key: AccountKey,
        pipe: bytes,
        *,
        tokens: int,
        ether: int,
        wait: float,
        per_minute: int,
    ) -> None:
        """`pipe`: the contract that knows the token. `wait`: seconds from one gift to an address to the next."""
        self._clock = clock
        self._node = node
        self._key = key
        self._pipe = pipe
        self._tokens, self._ether = tokens, ether
        self._wait, self._per_minute = wait, per_minute
        self._given: OrderedDict[bytes, float] = OrderedDict()
        self._recent: deque[float] = deque()
        self._lock = DeferredLock()
        self.gifts = 0
        self.refusals = 0
        self.failures = 0

    async def check(self) -> int:
        """The chain's id. Raises `FaucetRefuses` unless it is a development chain."""
        chain = await self._node.chain()
        if chain not in DEVELOPMENT_CHAINS:
            raise FaucetRefuses(f"chain {chain} is no development chain: a faucet gives nothing there")
        return chain

    async def give(self, address: bytes) -> list[bytes]:
        """Hashes of the transactions that bring it, once they are handed in.

        Raises `FaucetRefuses`, `EthereumError`.
        """
        try:
            self._admit(address)
        except FaucetRefuses:
            self.refusals += 1
            raise
        try:
            return await self._lock.run(Deferred.fromCoroutine, self._send(address))
        except EthereumError:
            self.failures += 1
            self._given.pop(address, None)  # it got nothing
            raise

    def _admit(self, address: bytes) -> None:
        now = self._clock.seconds()
        last = self._given.get(address)
        if last is not None and now < last + self._wait:
            raise FaucetRefuses(f"this address was given something; again in {last + self._wait - now:.0f} seconds")
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= self._per_minute or len(self._lock.waiting) >= _WAITING:
            raise FaucetRefuses("too many are given something now; try again in a minute")
        self._recent.append(now)
        self._given[address] = now
        self._given.move_to_end(address)
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)

    async def _send(self, address: bytes) -> list[bytes]:
        chain = await self.check()
        sender = TransactionSender(self._clock, self._node, self._key, chain)
        sent: list[Signed] = []
        if self._ether:
            sent.append(await sender.send(address, value=self._ether))
        if self._tokens:
            token = read_address(await self._node.call(self._pipe, call_data("token()")))
            transfer = call_data("transfer(address,uint256)", address_word(address), number_word(self._tokens))
            sent.append(await sender.send(token, transfer))
        self.gifts += 1
        return [each.hash for each in sent]
