"""The extension points: every interface that a third party may implement.

A method that *may wait* returns a value, a Deferred or a coroutine; the caller handles all three.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from zope.interface import Attribute, Interface

from nymtw.drop_reasons import DropReason
from nymtw.topology.document import NodeRecord, Topology


class IProvider(Interface):
    """Takes the packets that end at a provider.

    Implementations: the store-and-forward provider, which keeps packets for clients, and anything that acts on packets
    itself. One object serves one node, in the reactor's thread. Before the call the node has unwrapped the packet,
    refused replays and taken out the ack. It sends the ack once `deliver` has succeeded.
    """

    def start() -> Any:
        """Called once before the first packet. May wait. An error ends the node; the log shows the error's text."""

    def deliver(delivery: Any) -> Any:
        """Take one `nymtw.provider.delivery.Delivery` (destination, kind, content). May wait.

        The result may fire only when the packet is stored: success is the sender's acknowledgement. Raise
        `UnknownDestination` or `MailboxFull` to refuse the packet. Any other error is counted as `provider-error` and
        logged without the content; the node goes on. Never block the reactor; never keep more than a bounded number of
        packets in memory.
        """

    def stop() -> Any:
        """Called once after the last packet. May wait. Acknowledged packets must be safe when it has finished."""


class IMailboxHost(IProvider):
    """A provider with mailboxes: the node listens on its client port and serves registration, login and pulls.

    Other providers have no client port: clients reach them through the mixnet alone.
    """

    mailboxes: Any = Attribute("IMailboxStore, set when `start` is called")


class IService(Interface):
    """Handles whole messages at the mixnet, and answers them. Most providers are services.

    The framework turns a service into an `IProvider`. It opens and reassembles messages to the service's address, keeps
    reply blocks, cuts answers into packets and resends lost ones. One object serves one node, in the reactor's thread.
    Derive from `nymtw.provider.api.Service`, which has everything but `handle`.

    Rules:
    * Never block the reactor. A second of that is logged with the stack, and counted as `blocked`.
    * Use no network but through the context, unless that is the service's purpose.
    * Never log the content of a request.
    """

    limits: Any = Attribute("`nymtw.provider.api.ServiceLimits`: concurrent requests, seconds for each, and so on")

    def start() -> Any:
        """Called once before the first request. May wait. An error ends the node; the log shows the error's text."""

    def handle(request: Any) -> Any:
        """Called for each whole message with a `nymtw.provider.api.Request`. May wait, for `limits.seconds` at most.

        Return bytes to answer, None for no further answer. `request.reply` may send many answers before `handle` has
        finished, and none after. An error is counted as `failed`, its type and place are logged once, and the node goes
        on. While the node runs, each message comes once. After a restart, a message may come again if its sender was
        not yet told that it arrived.

        When the time is over, the Deferred or coroutine is cancelled, and the request is counted as `timed-out`.
        """

    def leave() -> Any:
        """Called once when the node begins to stop, while it still sends and takes packets: for shutdown messages. May
        wait, for five seconds at most. `stop` is called in any case.
        """

    def stop() -> Any:
        """Called once after the last request has finished or was cancelled. May wait."""


class IProviderFactory(Interface):
    """A provider implementation as a plugin: an object that provides this and `twisted.plugin.IPlugin` in a module of
    `twisted/plugins/`. Use `nymtw.provider.plugin.ProviderFactory`. The module must not import the reactor.
    """

    name: str = Attribute("the value of `--impl`: lower-case letters, digits and dashes, starting with a letter")
    summary: str = Attribute("one line for `--impl=list`")
    options: type[Any] = Attribute("a `twisted.python.usage.Options` subclass: the implementation's own options")

    def make_provider(context: Any, options: Mapping[str, Any]) -> Any:
        """Return an `IProvider` or an `IService`, at once. `context` is an `IProviderContext`, `options` the parsed
        command line. Nothing runs yet: open files and start timers in `start`.

        Raise `ConfigError` for options that cannot be used: its text is shown, and the node exits with status 1.
        """


class IProviderContext(Interface):
    """The part of the node that a provider implementation may use."""

    identity: bytes = Attribute("the provider's identity key (32 bytes), by which the topology names it")
    clock: Any = Attribute("IReactorTime: the only clock. Calls still scheduled when the node stops are cancelled")
    wall_clock: Callable[[], float] = Attribute("seconds since 1970")
    random: Random = Attribute("the only source of randomness")
    data: Any = Attribute("pathlib.Path: a folder of the implementation's own, mode 0700, kept across restarts")
    log: Any = Attribute("twisted.logger.Logger; never log contents, destinations or anything that names a client")
    metrics: Any = Attribute("`count(name, number=1)` counts events for the operator; a name never names a client")
    reactor: Any = Attribute("the node's reactor, for an implementation whose purpose is to reach the internet")

    def reply(sender: bytes, message: bytes) -> Any:
        """Send `message` to the sender with the tag `sender` (16 bytes, `request.sender`).

        A Deferred that never fails: True once the whole message has arrived, False if it was given up. The reply blocks
        of the sender are used up, and more are requested. Raises `QueueFull` if too much already waits for this sender,
        `NymtwError` if there is no way to reply, `MessageTooLong`.
        """

    def send(message: bytes, recipient: Any) -> Any:
        """Send `message` to an address (`nymtw.topology.address.Address`) like any client.

        A Deferred that never fails: True once it is stored at the recipient's provider, False if it was given up. While
        the topology does not list that provider the message waits. Raises `QueueFull`, `MessageTooLong`.
        """

    def topology() -> Topology | None:
        """The newest topology, which is immutable; None before the first one has arrived."""


class IDelayStrategy(Interface):
    """Draws the delays that a sender asks each hop to apply to a packet."""

    def draw(hops: int, random: Random) -> Sequence[int]:
        """`hops` delays in nanoseconds, each 0 <= delay < 2**64."""


class IRouteStrategy(Interface):
    """Draws the mixnodes that a packet passes."""

    def draw(topology: Topology, random: Random) -> Sequence[NodeRecord]:
        """One mixnode for each layer, in order. Raises `TopologyIncomplete` if a layer is empty."""


class ILinkSchedule(Interface):
    """When a padded line sends: the lines between edges and mixnodes, whose rates stand in the topology.

    `nymtw.link.schedules` has `ConstantSlots`, the default. In each slot the line sends what waits, the oldest first,
    and dummies for the rest. So what an observer sees is this schedule and nothing else: it may depend on no traffic.
    """

    def slots(rate: float, random: Random) -> Iterator[tuple[float, int]]:
        """The slots of one size of frames on one line, without end: seconds since the slot before (since the start for
        the first), and how many frames it sends, at least 1. On average `rate` (more than 0) frames a second.
        """


class ICoverStrategy(Interface):
    """What a client sends in a slot of its sending stream when no packet waits."""

    def fill(sender: Any) -> None:
        """Called once for each such slot: call `sender.send_drop()` or `sender.send_loop()` once, or neither.

        `sender` is the client's `PacketSender`. What is sent may not depend on what applications do. Never block.
        """


class IMixing(Interface):
    """How a node mixes: it holds packets and decides when, and in which order, they leave.

    Made by a factory of `clock` (IReactorTime), `release` (called with the list of items that leave together),
    `random`, `capacity` (items held at most), `patience` and `late`: what the process is later with than `patience`
    seconds is dropped, and `late` is told how many were. The default is `nymtw.mixing.delay_queue.DelayQueue`: each
    packet leaves after the delay that its sender drew.
    """

    def add(item: Any, delay_ns: int) -> bool:
        """Hold `item`, whose sender asked for `delay_ns` nanoseconds. False where there is no room: it is not held."""

    def pause() -> None:
        """Release nothing before `resume`; items are still taken."""

    def resume() -> None:
        """Go on."""

    def drain() -> list[Any]:
        """Take out everything, in random order; no timer is left."""

    def __len__() -> int:
        """How many items are held."""


class ICoverPolicy(Interface):
    """Decides what a node does when too many of its own loops are lost or late: somebody may block traffic."""

    def decide(loss: Any) -> str:
        """Called once for each window of time, with its `nymtw.mixing.loop_loss.LoopLoss` (sent, returned, seconds).

        Returns one of these, which applies until the next window's decision:
        * "go-on": nothing changes.
        * "warn": the log says so.
        * "slow-down": the log says so, and every packet that arrives from now on is held for twice its delay.
        * "pause": the log says so, and no packet is released.

        Loops are sent in any case, so that their return can be observed. Never block.
        """


class IDirectory(Interface):
    """The directory, as nodes and clients use it: over HTTP, or in memory in `nymtw.testing`.

    Every method returns a Deferred, which fails with `DirectoryError`.
    """

    def announce(path: str, heartbeat: Mapping[str, Any]) -> Any:
        """Post a signed heartbeat (JSON-able) to the presence `path`: mixnodes, mixproviders, gateways or nodes."""

    def topology() -> Any:
        """Fires with the bytes of the newest signed topology (`nymtw.topology.document.SignedTopology`, CBOR)."""

    def report(metric: Mapping[str, Any]) -> Any:
        """Post one signed metric (JSON-able) of a mixnode."""


class ICredentialVerifier(Interface):
    """Decides who may send over a provider or gateway, and how much: the extension point for anonymous credentials.

    `nymtw.provider.admission` has the default: everybody may send as much as a client of this network does, and a tenth
    more.
    """

    def verify(mailbox: bytes, credential: bytes) -> Any:
        """Called at each login, after the client has proved that it owns the mailbox (id: 32 bytes), with the client's
        credential (0 to 1,024 bytes). May wait, but not for longer than the handshake's deadline (20 seconds).

        Returns the `IAllowance` of this session. Raise `RegistrationRefused` to refuse the login: its text, at most
        200 characters, is sent to the client. Repeated logins must not give a client more. Log nothing that names a
        client.
        """

    def use_topology(topology: Topology) -> None:
        """Called with each new topology; the first call comes before any packet can pass."""


class IAllowance(Interface):
    """The packets that one session may send."""

    def take() -> DropReason | None:
        """Called for each packet that the client wants to send. Returns None to forward it, or the reason to drop it.
        A drop is counted; the client is not told. Must answer at once, in a microsecond or two.
        """


class IOpeningPrice(Interface):
    """What a client pays for opening a stream at an exit: nothing, work, or some day a token or a ticket.

    The default is `nymtw.provider.exit.places.ProofOfWork`. Both methods must answer at once.
    """

    def ask(load: float) -> str:
        """The price now, at most 64 characters; "" for nothing. `load`: the share of places that is taken, 0 to 1."""

    def accepts(price: str, tag: bytes, stream: bytes, payment: bytes) -> bool:
        """Whether `payment` (at most 1,024 bytes) pays `price`, which was asked for this stream (16 bytes) of the
        client with the tag (16 bytes). It is called once for each price: what can be spent once is spent then.
        """


class IMailboxStore(Interface):
    """Keeps the mail of a store-and-forward provider.

    `nymtw.storage` has SQLite (in memory for tests) and PostgreSQL. One object, in the reactor's thread. Methods that
    wait fail with `DiskError` if the storage cannot be used now; the caller may try again. A failed `store` or
    `register` may have been written all the same, so that a second attempt may store an item twice.
    """

    def register(mailbox: bytes, public_key: bytes, token_hash: bytes) -> Any:
        """Create the mailbox (id: 32 bytes), or replace its token's hash. A Deferred that fires when it is durable.

        Fails with `MailboxFull` if the limit of mailboxes is reached.
        """

    limits: Any = Attribute("`nymtw.storage.mailbox_limits.MailboxLimits`: what it keeps, and for how long")

    def touch(mailbox: bytes) -> None:
        """The owner of this mailbox is here: it does not expire for another `limits.abandoned_age`. Answers at once."""

    def find(mailbox: bytes) -> Any:
        """The `MailboxRecord` (public_key, token_hash) of this mailbox, or None. May wait; raises `DiskError`."""

    def store(mailbox: bytes, kind: int, content: bytes) -> Any:
        """Append an item. A Deferred that fires when it survives kill -9.

        Fails with `UnknownDestination` or `MailboxFull`.
        """

    def subscribe(callback: Callable[[bytes], object]) -> None:
        """From now on, call `callback(mailbox)` each time that mail of a mailbox has become durable; once for all items
        of one commit. The call is made in the reactor's thread; a `pull` in it returns the new items.
        """

    def count() -> int:
        """The number of mailboxes. Answers at once."""

    def pull(mailbox: bytes, count: int, after: int) -> Any:
        """Up to `count` `StoredItem` (number, kind, content) with number > `after`, oldest first. May wait; raises
        `DiskError`.

        Only durable items are returned. An item that becomes durable later has a higher number than all that were
        returned before, so that a caller who continues `after` the last number misses none.
        """

    def confirm(mailbox: bytes, numbers: Sequence[int]) -> Any:
        """Delete these items. May wait: when it has finished they never come back, not even after kill -9.

        Missing items, and items of other mailboxes, are ignored. Raises `DiskError`.
        """

    def close() -> Any:
        """Write pending changes, then close. May wait."""


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

    def bonds(after: bytes = b"", count: int = 100) -> Any:
        """Fires with who is bonded now: up to `count` (100 at most) pairs of address (20 bytes) and
        `nymtw.ledger.machine.state.Bond`, by ascending address, above `after`.
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
