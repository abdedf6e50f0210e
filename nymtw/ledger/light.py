"""A client of the ledger that believes nothing but the validators' signatures."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nymtw.errors import LedgerError, ProofError
from nymtw.interfaces import ILedger
from nymtw.ledger.answers import LedgerStatus, SignedHeader
from nymtw.ledger.cometbft.light_blocks import (
    CometValidator,
    LightBlock,
    in_order,
    overlap,
    parse_light_block,
    validators_hash,
    verify_light_block,
)
from nymtw.ledger.embedded.headers import verify_header
from nymtw.ledger.machine.machine import genesis_root, query_key
from nymtw.ledger.machine.merkle import verify
from nymtw.ledger.machine.parameters import Genesis
from nymtw.ledger.machine.signatures import address_text
from nymtw.ledger.machine.state import Bond, decode_record
from nymtw.ledger.storage.records import BlockRecord, TransactionPlace
from nymtw.ledger.storage.replica import StateAnswer

TRUST: Final = 14 * 86400.0  # seconds: less than it takes validators to get their bonds back
_DRIFT: Final = 10.0  # seconds that a block may be ahead of our clock
_ROOTS: Final = 1000  # kept


class Trust:
    """Which validators are the chain's, beginning with genesis; a later set where enough of an earlier one signed.

    A header that is not adjacent is believed where more than a third of the validators that were trusted last have
    signed it; where they have not, one half-way is asked for (CometBFT's skipping verification).
    """

    def __init__(self, genesis: Genesis, wall_clock: Callable[[], float], period: float = TRUST) -> None:
        """`period`: seconds for which a set that was trusted at a block's time can still vouch for another one."""
        self.genesis = genesis
        self._wall_clock = wall_clock
        self._period = period
        listed = genesis.parameters.validators
        self._validators = in_order([CometValidator(each.key, each.power) for each in listed])
        self._next = validators_hash(self._validators)  # of the block after the one that is trusted
        self._height = 0
        self._time: float | None = None  # genesis does not age: who has it was given it
        self._roots: dict[int, bytes] = {}
        self._driver = ""

    async def root(self, ledger: Any, height: int) -> bytes:
        """The state's root after block `height`, as the validators have signed it; before any block (0) it is the one
        that genesis makes. Raises `ProofError`.
        """
        if height == 0:
            return genesis_root(self.genesis)
        if height not in self._roots:
            signed: SignedHeader = await ledger.header(height)
            if signed.driver == "embedded":
                self._roots[height] = self._embedded_root(signed, height)
            else:
                block = await self._block(ledger, height + 1, signed)
                await self._follow(ledger, block)
                self._roots[height] = block.app_hash
            if len(self._roots) > _ROOTS:
                del self._roots[next(iter(self._roots))]
        return self._roots[height]

    async def confirm(self, ledger: Any, height: int, root: bytes) -> None:
        """Raises `ProofError` unless the validators have signed that the state had this root when block `height` came.

        That is: after it, or after the block before. A chain that waits for transactions has no block which would sign
        that its last one, an empty one, changed nothing.
        """
        self._driver = self._driver or (await ledger.status()).driver
        if height > 0 and self._driver != "embedded" and await self.root(ledger, height - 1) == root:
            return
        try:
            signed = await self.root(ledger, height)
        except ProofError:
            raise
        except LedgerError as error:
            raise ProofError(f"nobody shows that the validators have signed this state: {error}") from None
        if signed != root:
            raise ProofError(f"the state after block {height} has another root")

    def _embedded_root(self, signed: SignedHeader, height: int) -> bytes:
        validators = self.genesis.parameters.validators
        if len(validators) != 1:
            raise ProofError("the genesis names several validators, and one signs alone")
        return verify_header(signed.header, signed.signature, validators[0].key, self.genesis.chain, height).root

    async def _block(self, ledger: Any, height: int, signed: SignedHeader | None = None) -> LightBlock:
        if signed is None:
            signed = await ledger.header(height - 1)
        block = parse_light_block(signed.light_block or {})
        verify_light_block(block, self.genesis.chain, height)
        if block.time / 1e9 > self._wall_clock() + _DRIFT:
            raise ProofError("the block is of the future")
        return block

    async def _follow(self, ledger: Any, target: LightBlock) -> None:
        """Believe `target`, by way of blocks between if need be."""
        waiting = [target]
        while waiting:
            block = waiting[-1]
            if self._believes(block):
                waiting.pop()
                self._take(block)
                continue
            low, high = sorted((self._height, block.height))
            middle = (low + high) // 2
            if middle in (low, high) or block.height < self._height:
                raise ProofError("validators that are not known have signed the block")
            waiting.append(await self._block(ledger, middle))

    def _believes(self, block: LightBlock) -> bool:
        if self._time is not None and self._wall_clock() > self._time + self._period:
            raise ProofError("what was trusted last is too old to vouch for another block: begin with a new genesis")
        if block.validators_hash in (self._next if block.height == self._height + 1 else b"", self._known):
            return True
        return overlap(self._validators, block)

    @property
    def _known(self) -> bytes:
        return validators_hash(self._validators)

    def _take(self, block: LightBlock) -> None:
        if block.height > self._height:
            self._validators, self._next = block.validators, block.next_validators_hash
            self._height, self._time = block.height, block.time / 1e9


@implementer(ILedger)
class LightLedger:
    """`ILedger` over one that is not trusted: what it says of the state is proved, by its root and signatures.

    That a transaction or a block is what another one says is not proved: ask for the state that it has changed. A node
    can hold back what is new; it cannot say anything false.
    """

    def __init__(self, ledger: Any, trust: Trust) -> None:
        self._ledger = ledger
        self._trust = trust

    def query(self, path: str, height: int | None = None, prove: bool = False) -> "Deferred[StateAnswer]":
        """What the state says. Fails with `ProofError` where that is not proved."""

        async def ask() -> StateAnswer:
            answer: StateAnswer = await self._ledger.query(path, height, True)
            if answer.key != query_key(path) or (height is not None and answer.height != height):
                raise ProofError("another question was answered")
            if answer.proof is None:
                raise ProofError("there is no proof")
            await self._trust.confirm(self._ledger, answer.height, answer.root)
            verify(answer.root, answer.key, answer.value, answer.proof)
            return answer

        return Deferred.fromCoroutine(ask())

    def status(self) -> "Deferred[LedgerStatus]":
        """As the node says, but for the chain. Fails with `ProofError` where it is another one."""

        async def ask() -> LedgerStatus:
            status: LedgerStatus = await self._ledger.status()
            if status.chain != self._trust.genesis.chain:
                raise ProofError(f"this is the chain {status.chain!r:.60}")
            return status

        return Deferred.fromCoroutine(ask())

    def next_nonce(self, address: bytes) -> "Deferred[int]":
        """As the node says: a wrong one makes a transaction be refused, no more."""
        return self._ledger.next_nonce(address)

    def submit(self, transaction: bytes) -> "Deferred[bytes]":
        """Hand a transaction in."""
        return self._ledger.submit(transaction)

    def result(self, identity: bytes, wait: float = 0.0) -> "Deferred[TransactionPlace | None]":
        """As the node says."""
        return self._ledger.result(identity, wait)

    def blocks(self, after: int, count: int = 100, wait: float = 0.0) -> "Deferred[Sequence[BlockRecord]]":
        """As the node says."""
        return self._ledger.blocks(after, count, wait)

    def bonds(self, after: bytes = b"", count: int = 100) -> "Deferred[list[tuple[bytes, Bond]]]":
        """Each of them is proved; a node can leave some out. Fails with `ProofError` for one that is not."""

        async def ask() -> list[tuple[bytes, Bond]]:
            found = []
            for address, _ in await self._ledger.bonds(after, count):
                answer = await self.query(f"bond/{address_text(address)}")
                bond = decode_record(answer.key, answer.value)
                if bond is not None:  # else it was given back meanwhile
                    found.append((address, bond))
            return found

        return Deferred.fromCoroutine(ask())

    def header(self, height: int) -> "Deferred[SignedHeader]":
        """Fails with `ProofError` where it is not signed by the chain's validators."""

        async def ask() -> SignedHeader:
            await self._trust.root(self._ledger, height)
            return await self._ledger.header(height)

        return Deferred.fromCoroutine(ask())

    def close(self) -> "Deferred[None]":
        """Close the ledger below."""
        return self._ledger.close()
