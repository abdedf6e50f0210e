"""Every seam that a third party may implement, documented; and nothing else.

A method that *may wait* returns a value, a Deferred or a coroutine; the caller handles all three.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    import random

    from nymtw.drop_reasons import DropReason
    from nymtw.topology.document import NodeRecord, Topology


class IProvider(Interface):
    """What a provider does with the packets that end at it.

    Implemented by the store-and-forward provider, which keeps them for a client that will pull them, and by anything
    that acts on packets itself. One object serves one node, in the reactor's thread. The node has unwrapped the packet,
    refused replays and taken out the ack before it calls; it sends the ack once `deliver` has succeeded.
    """

    def start() -> Any:
        """Called once before the first packet. May wait. An error here ends the node with the error's text."""

    def deliver(delivery: Any) -> Any:
        """Take one `nymtw.provider.delivery.Delivery` (destination, kind, content). May wait.

        When it succeeds the sender is told that the packet is stored: only then may the result fire. Raise
        `UnknownDestination` or `MailboxFull` to refuse the packet; any other error is counted as `provider-error`,
        logged without the content, and the node lives on. Never block the reactor; never keep more than a bounded
        number of packets in memory.
        """

    def stop() -> Any:
        """Called once after the last packet. May wait; what was acknowledged must be safe when it has finished."""


class IMailboxHost(IProvider):
    """A provider with mailboxes: the node listens on its client port and serves registration, login and pulls.

    Anything else has no client port: clients of other providers reach it through the mixnet alone.
    """

    mailboxes: Any = Attribute("IMailboxStore, from the moment that `start` is called")


class IService(Interface):
    """What a service at the mixnet does with a whole message, and by what channel it answers. Most providers are this.

    The framework makes an `IProvider` of it: it opens and reassembles what was sent to the service's address, keeps
    reply blocks, cuts answers into packets and sends those again that got lost. One object serves one node, in the
    reactor's thread. Derive from `nymtw.provider.api.Service`, which has everything but `handle`.

    Never block the reactor (a second of that is logged with the stack, and counted as `blocked`), never speak to
    anybody but through the context unless that is what the service is for, never log what a request holds.
    """

    limits: Any = Attribute("`nymtw.provider.api.ServiceLimits`: requests at once, seconds for each, and so on")

    def start() -> Any:
        """Called once before the first request. May wait. An error here ends the node with the error's text."""

    def handle(request: Any) -> Any:
        """Called for each whole message with a `nymtw.provider.api.Request`. May wait, for `limits.seconds` at most.

        Bytes are the answer; None is no answer, or none beyond those that were given with `request.reply`, of which
        there may be many before `handle` has finished, and none after. An error is counted as `failed`, its type and
        place are logged once, and the node lives on. A message comes once while the node runs; after a restart one
        whose sender was not yet told that it arrived may come again.

        When time is over the Deferred or coroutine is cancelled and the request is over, counted as `timed-out`.
        """

    def leave() -> Any:
        """Called once when the node begins to stop, while it still sends and takes packets: for last words. May wait,
        for five seconds at most. `stop` is called in any case.
        """

    def stop() -> Any:
        """Called once after the last request has finished or was cancelled. May wait."""


class IProviderFactory(Interface):
    """A provider implementation as a plugin: an object that provides this and `twisted.plugin.IPlugin` in a module of
    `twisted/plugins/`. Use `nymtw.provider.plugin.ProviderFactory`. The module must not import the reactor.
    """

    name: str = Attribute("what `--impl` is given: lower-case letters, digits and dashes, starting with a letter")
    summary: str = Attribute("one line for `--impl=list`")
    options: type[Any] = Attribute("a `twisted.python.usage.Options` subclass: the implementation's own options")

    def make_provider(context: Any, options: Mapping[str, Any]) -> Any:
        """Return an `IProvider` or an `IService`, at once. `context` is an `IProviderContext`, `options` the parsed
        command line. Nothing runs yet: what opens files or starts timers waits for `start`.

        Raise `ConfigError` for options that cannot be used: its text is shown and the node exits with status 1.
        """


class IProviderContext(Interface):
    """What a provider implementation is given, and all it may touch of the node it runs in."""

    identity: bytes = Attribute("the provider's identity key (32 bytes), by which the topology names it")
    clock: Any = Attribute("IReactorTime: the only clock. What is still scheduled when the node stops is cancelled")
    wall_clock: Callable[[], float] = Attribute("seconds since 1970")
    random: "random.Random" = Attribute("the only source of randomness")
    data: Any = Attribute("pathlib.Path: a folder of the implementation's own, mode 0700, kept across restarts")
    log: Any = Attribute("twisted.logger.Logger; never log contents, destinations or anything that names a client")
    metrics: Any = Attribute("`count(name, number=1)` counts what the operator should know; names no client, ever")
    reactor: Any = Attribute("the node's reactor, for an implementation whose purpose is to reach the wider internet")

    def reply(sender: bytes, message: bytes) -> Any:
        """Send `message` to whoever is behind the tag `sender` (16 bytes, `request.sender`).

        A Deferred that never fails: True once all of it has come, False where it was given up. It uses up the reply
        blocks that the sender gave, and asks the sender for more. Raises `QueueFull` where the sender has as much to
        get as is kept, `NymtwError` where there is no way to reply, `MessageTooLong`.
        """

    def send(message: bytes, recipient: Any) -> Any:
        """Send `message` to an address (`nymtw.topology.address.Address`) like any client.

        A Deferred that never fails: True once it is stored at the recipient's provider, False where it was given up.
        Raises `QueueFull`, `MessageTooLong`, and `UnknownDestination` where the topology does not know the provider.
        """

    def topology() -> "Topology | None":
        """The newest topology, which cannot be changed; None before the first has come."""


class IDelayStrategy(Interface):
    """How long a sender asks each hop to hold a packet."""

    def draw(hops: int, random: "random.Random") -> Sequence[int]:
        """`hops` delays in nanoseconds, each 0 <= delay < 2**64."""


class IRouteStrategy(Interface):
    """Which mixnodes a packet passes."""

    def draw(topology: "Topology", random: "random.Random") -> Sequence["NodeRecord"]:
        """One mixnode for each layer, in order. Raises `TopologyIncomplete` where a layer is empty."""


class ICoverPolicy(Interface):
    """What a mixnode does when too many of its own loops do not come back: somebody may be blocking its traffic."""

    def decide(loss: Any) -> str:
        """Called once for each window of time, with its `nymtw.mixnode.loop_loss.LoopLoss` (sent, returned, seconds).

        Returns "go-on"; "warn": say so in the log; "slow-down": say so and hold every packet that comes from now on for
        twice its delay; "pause": say so and release no packet. That holds until the next window has been decided on.
        Loops themselves are sent on in any case, so that their return can be seen. Never block.
        """


class IDirectory(Interface):
    """The directory as a node or client sees it: over HTTP, or in memory in `nymtw.testing`.

    Every method returns a Deferred, which fails with `DirectoryError`.
    """

    def announce(path: str, heartbeat: Mapping[str, Any]) -> Any:
        """Post a signed heartbeat (JSON-able) to the presence `path`: mixnodes, mixproviders, gateways or nodes."""

    def topology() -> Any:
        """Fires with the bytes of the newest signed topology (`nymtw.topology.document.SignedTopology`, CBOR)."""

    def report(metric: Mapping[str, Any]) -> Any:
        """Post one signed metric (JSON-able) of a mixnode."""


class ICredentialVerifier(Interface):
    """Who may send over a gateway, and how much: the seam for anonymous credentials. `nymtw.gateway.admission` has the
    default, which lets everybody send what a client of this network sends, and a tenth more.
    """

    def verify(mailbox: bytes, credential: bytes) -> Any:
        """Called at each login, once the client has proved that the mailbox (id: 32 bytes) is its own, with what it
        shows (0 to 1,024 bytes). May wait, but not for longer than the handshake's deadline (20 seconds).

        Returns the `IAllowance` of this session. Raise `RegistrationRefused` to refuse the login: its text, at most
        200 characters, is told to the client. Whoever logs in again and again must not get more by it. Log nothing
        that names a client.
        """

    def use_topology(topology: "Topology") -> None:
        """Called with each topology, the first time before any packet can pass."""


class IAllowance(Interface):
    """What one session may send."""

    def take() -> "DropReason | None":
        """Called for each packet that the client asks to have passed on. None: it goes on its way; else why it is
        dropped, which is counted and not told. Answers at once, in a microsecond or two.
        """


class IMailboxStore(Interface):
    """Where a store-and-forward provider keeps mail.

    `nymtw.storage` has SQLite, which in memory is for tests, and PostgreSQL. One object in the reactor's thread. What
    waits fails with `DiskError` where the storage cannot be used now; it may be tried again. A failed `store` or
    `register` promises nothing: what it was given may be there all the same, so whoever tries again may store twice.
    """

    def register(mailbox: bytes, public_key: bytes, token_hash: bytes) -> Any:
        """Create the mailbox (id: 32 bytes), or replace its token's hash. A Deferred that fires when it is durable.

        Fails with `MailboxFull` where there are as many mailboxes as may be.
        """

    def find(mailbox: bytes) -> Any:
        """The `MailboxRecord` (public_key, token_hash) of this mailbox, or None. May wait; raises `DiskError`."""

    def store(mailbox: bytes, kind: int, content: bytes) -> Any:
        """Append an item. A Deferred that fires when it survives kill -9.

        Fails with `UnknownDestination` or `MailboxFull`.
        """

    def subscribe(callback: Callable[[bytes], object]) -> None:
        """From now on call `callback(mailbox)` each time that mail of this mailbox has become durable, once for many
        items that became so together. Called in the reactor's thread; a `pull` in it returns them already.
        """

    def count() -> int:
        """How many mailboxes there are. Answers at once."""

    def pull(mailbox: bytes, count: int, after: int) -> Any:
        """Up to `count` `StoredItem` (number, kind, content) with number > `after`, oldest first. May wait; raises
        `DiskError`.

        Only items that are durable are returned. An item that becomes durable later has a higher number than all that
        were returned before: whoever goes on `after` the last number misses none.
        """

    def confirm(mailbox: bytes, numbers: Sequence[int]) -> Any:
        """Delete these items. May wait: when it has finished they never come back, not even after kill -9.

        What is not there, or is another mailbox's, is passed over. Raises `DiskError`.
        """

    def close() -> Any:
        """Write what is pending, then close. May wait."""


class ILedger(Interface):
    """The ledger as anybody sees it who is not a part of it: in this process, or over HTTP, one node or several.

    Whichever driver is behind it, every method returns a Deferred. It fails with `LedgerError` where the ledger cannot
    be reached or does not know. `nymtw.ledger.clients` has what is made of these: an account's balance, a transaction
    that is signed and waited for, a feed of blocks.
    """

    def status() -> Any:
        """Fires with the `nymtw.ledger.answers.LedgerStatus` of a node that answers."""

    def query(path: str, height: int | None = None, prove: bool = False) -> Any:
        """Fires with the `nymtw.ledger.storage.replica.StateAnswer` for a path of `machine.query_key`, after the block
        of `height` or the last one. With `prove` it carries what proves it by the state's root. Fails with
        `EncodingError` for a path that is none.
        """

    def next_nonce(address: bytes) -> Any:
        """Fires with the nonce (from 0) of the next transaction of the account `address` (20 bytes), behind those of it
        that wait at the node that answers.
        """

    def submit(transaction: bytes) -> Any:
        """Hand a signed transaction in. Fires with its id (32 bytes) once it waits for a block.

        Fails with `TransactionRefused`. One that waits may still be refused by its block, or be lost with a node:
        `result` tells.
        """

    def result(identity: bytes, wait: float = 0.0) -> Any:
        """Fires with the `nymtw.ledger.storage.records.TransactionPlace` of the transaction with this id as soon as it
        is in a block, or with None once `wait` seconds have passed.
        """

    def blocks(after: int, count: int = 100, wait: float = 0.0) -> Any:
        """Fires with up to `count` blocks (`nymtw.ledger.storage.records.BlockRecord`) above the height `after`, lowest
        first, as soon as there is one; with none once `wait` seconds have passed. Blocks that are kept no more are left
        out.
        """

    def header(height: int) -> Any:
        """Fires with the `nymtw.ledger.answers.SignedHeader` that makes the state after `height` trustworthy."""

    def close() -> Any:
        """Ask no more. Fires when connections are closed; what is still waited for fires or fails before."""


class ILedgerDriver(Interface):
    """What decides on the order of transactions, for the node in whose process it runs: a service, too."""

    name: str = Attribute("embedded, cometbft")
    waiting: int = Attribute("how many transactions are in no block yet")

    def submit(transaction: bytes) -> Any:
        """As `ILedger.submit`. May wait."""

    def header(height: int) -> Any:
        """As `ILedger.header`. May wait."""
