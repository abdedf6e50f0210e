"""`nym-client broadcast`: submits a signed transaction to a chain through the mixnet."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner
from twisted.python import usage

from nymtw.client.core import ClientCore
from nymtw.client.proxies.fetch import WebOptions, run, warn_of_visibility
from nymtw.client.sending.messages import State
from nymtw.client.sending.packet_sender import pack_address
from nymtw.client.service import ClientService
from nymtw.errors import ConfigError, EncodingError, NymtwError, TopologyIncomplete
from nymtw.message.broadcast import ID_LENGTH, MAX_TRANSACTION_LENGTH, SERVICE, BroadcastAnswer, BroadcastRequest
from nymtw.node.option_types import argument_last
from nymtw.topology.address import Address

BLOCKS: Final = 5
PATIENCE: Final = 240.0  # seconds for the answer: a broadcaster may need a while to reach its node


class BroadcastFailed(NymtwError):
    """The transaction was not accepted."""


class BroadcastOptions(WebOptions):
    """`nym-client broadcast --chain eth TX`."""

    synopsis = "Usage: nym-client broadcast --chain CHAIN TX [OPTIONS]"
    optParameters: ClassVar[list[Any]] = [
        ["chain", None, None, "Name of the chain at its broadcaster, such as eth, cometbft or bitcoin"]
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`, with the transaction before or after the options."""
        super().parseOptions(argument_last(sys.argv[1:] if options is None else options))

    def parseArgs(self, transaction: str) -> None:  # type: ignore[override]  # the signature follows usage.Options
        """Take the signed transaction in hexadecimal, or @FILE with its bytes."""
        self["transaction"] = transaction

    def postOptions(self) -> None:
        """Check that there is a chain."""
        super().postOptions()
        if self["chain"] is None:
            raise usage.UsageError("--chain is needed")


def read_transaction(text: str) -> bytes:
    """The bytes of a transaction: hexadecimal with or without 0x, or @FILE. Raises `ConfigError`."""
    if text.startswith("@"):
        try:
            data = Path(text[1:]).read_bytes()
        except OSError as error:
            raise ConfigError(f"{text[1:]}: {error.strerror}") from None
    else:
        try:
            data = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            raise ConfigError("the transaction is not hexadecimal") from None
    if not 0 < len(data) <= MAX_TRANSACTION_LENGTH:
        raise ConfigError(f"a transaction is 1 to {MAX_TRANSACTION_LENGTH} bytes, not {len(data)}")
    return data


async def submit(
    core: ClientCore, clock: Any, random: Any, topology: Any, chain: str, transaction: bytes, via: str | None = None
) -> str:
    """Submit a transaction, and return its hash when a broadcaster has passed it to the chain.

    Raises `BroadcastFailed` with the chain's text, `TopologyIncomplete` if the network has no broadcaster.
    """
    if via is None:
        known = [] if topology is None else topology.services(SERVICE)
        if not known:
            raise TopologyIncomplete("the network has no broadcaster")
        via = random.choice(known)
    wanted = BroadcastRequest(id=random.randbytes(ID_LENGTH), chain=chain, transaction=transaction)
    answered: Deferred[BroadcastAnswer] = Deferred()

    def received(data: bytes) -> None:
        with suppress(EncodingError):
            answer = BroadcastAnswer.parse(data)
            if answer.id == wanted.id and not answered.called:
                answered.callback(answer)

    def ended(state: State) -> None:
        if state is not State.DONE and not answered.called:
            answered.errback(BroadcastFailed("the transaction did not arrive at the broadcaster"))

    def late(result: object, timeout: float) -> Any:
        raise BroadcastFailed("no answer has arrived: it is not known whether the chain has the transaction")

    # A circuit of its own: no broadcaster can link two transactions.
    circuit = core.circuits.open(pack_address(Address.parse(via, core.network)), received)
    try:
        circuit.post(wanted.encode(), wanted.id, blocks=BLOCKS, ended=ended)
        answer = await answered.addTimeout(PATIENCE, clock, late)
    finally:
        circuit.close()
    if answer.error:
        raise BroadcastFailed(answer.error)
    return answer.hash


def broadcast(options: BroadcastOptions) -> int:
    """Submit one transaction, and print its hash."""
    transaction = read_transaction(options["transaction"])
    warn_of_visibility()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)

    async def work(service: ClientService, reactor: Any) -> str:
        core = service.core
        assert core is not None
        topology = service.watch.current
        return await submit(core, reactor, SystemRandom(), topology, options["chain"], transaction, options["via"])

    print(run(options, work))
    return 0
