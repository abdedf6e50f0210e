"""Several directories, their nodes and their clients, on one fake clock, with faults as a test wants them."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from nymtw.directory.consensus.agreement import Agreement
from nymtw.directory.consensus.topology_store import Terms, TopologyStore
from nymtw.directory.consensus.votes import (
    NOTICE_LIMIT,
    HeardVote,
    Notice,
    Roster,
    Seen,
    Statement,
    Vote,
    sign,
    statements_answer,
    vote_bytes,
)
from nymtw.directory.consensus.votes import digest as digest_of
from nymtw.directory.registry import Registry
from nymtw.directory.retention import EXPIRY, Retention
from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import DirectoryError, EncodingError, TopologyError
from nymtw.node.directories.trust import majority
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import (
    MAX_TOPOLOGY_LENGTH,
    Recommended,
    SignedTopology,
    Topology,
    Trust,
    verify_topology,
)
from nymtw.topology.presence import Heartbeat, read_heartbeat

REFRESH = 20.0
STEP = int(REFRESH * 1e9)
LATENCY = 0.05


def directory_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


def node_key(number: int) -> SigningKey:
    return SigningKey(bytes([200, *number.to_bytes(2, "big")]) + bytes(29))


def node_identity(number: int) -> bytes:
    return bytes(node_key(number).verify_key)


class Peer:
    """The way from one directory to another."""

    def __init__(self, council: "Council", source: int, target: int) -> None:
        self._council = council
        self._way = (source, target)
        self.name = f"http://directory-{target}"

    def notify(self, notice: bytes) -> "Deferred[Any]":
        source, target = self._way
        told = self._council.members[source].tell(target, notice)
        return self._ask(lambda member: None if told is None else member.receive(told))

    def part(self, digest: bytes) -> "Deferred[bytes]":
        return self._ask(lambda member: member.part(digest, self._way[0]))

    def statements(self, digests: Sequence[bytes]) -> "Deferred[bytes]":
        return self._ask(lambda member: member.statements(list(digests)))

    def topology(self) -> "Deferred[bytes]":
        return self._ask(lambda member: member.topology_store.document())

    def close(self) -> "Deferred[None]":
        return maybeDeferred(lambda: None)

    def _ask(self, what: "Callable[[Member], Any]") -> "Deferred[Any]":
        council, (source, target) = self._council, self._way

        def ask() -> Any:
            if council.is_cut(source, target):
                raise DirectoryError(f"{self.name}: no connection")
            try:
                return what(council.members[target])
            except TopologyError as error:
                raise DirectoryError(str(error)) from None
            except EncodingError as error:
                council.refused.append((source, target, str(error)))
                raise DirectoryError(str(error)) from None

        asked = deferLater(council.clock, council.delay(source, target), ask)
        return asked.addCallback(lambda found: deferLater(council.clock, council.delay(target, source), lambda: found))


class Member:
    """One directory."""

    def __init__(self, council: "Council", number: int, settings: Mapping[str, Any]) -> None:
        self.number = number
        self.key = directory_key(number)
        self.identity = bytes(self.key.verify_key)
        clock = council.clock
        self.wall = lambda: clock.wall_clock() + council.skews.get(number, 0.0)
        self.put: list[bytes] = []
        self.topology_store = TopologyStore(council.trust, REFRESH, self.put.append)
        retention = Retention(council.expiry)
        self.registry = Registry(clock.seconds, self.wall, retention=retention, agreed_layer=lambda identity: 0)
        self.terms = Terms(**{"refresh": REFRESH, "validity": 600.0, "recommended": Recommended(), **settings})
        self.admission = bytes(32)
        self.agreement = Agreement(
            clock,  # type: ignore[arg-type]  # a fake
            self.wall,
            self.registry,
            self.topology_store,
            self.key,
            Roster(council.trust, self.identity),
            self.terms,
            {
                bytes(directory_key(other).verify_key): Peer(council, number, other)
                for other in council.numbers
                if other != number
            },
            admission=lambda: self.admission,
        )

    def tell(self, target: int, notice: bytes) -> bytes | None:
        """What really goes to `target`; None: nothing."""
        return notice

    def receive(self, notice: bytes) -> None:
        self.agreement.receive(notice)

    def part(self, digest: bytes, source: int) -> bytes:
        return self.agreement.part(digest)

    def statements(self, digests: list[bytes]) -> bytes:
        return statements_answer(self.agreement.statements(digests))

    def hear(self, post: Mapping[str, Any], read: Heartbeat | None = None) -> None:
        """`read`: what is in the post, where all clocks are right and it has been read already."""
        self.registry.accept(read or read_heartbeat(dict(post), self.wall()), post, "10.0.0.1")


class Council:
    """Directories 1 to `count`; nodes post to all of them every two seconds."""

    def __init__(self, count: int, threshold: int = 0, seed: int = 1) -> None:
        self.random = random.Random(seed)
        print("seed", seed)
        self.clock = FakeClock()
        self.numbers = range(1, count + 1)
        keys = tuple(bytes(directory_key(number).verify_key) for number in self.numbers)
        self.trust = Trust(keys, threshold or majority(count))
        self.skews: dict[int, float] = {}
        self.dead: set[int] = set()
        self.expiry = EXPIRY  # seconds, of directories that are started from now on
        self.cuts: set[tuple[int, int]] = set()
        self.latency = LATENCY  # seconds from one to another at most
        self.slow: dict[int, float] = {}
        self.quick: set[int] = set()  # their messages are there at once
        self.refused: list[tuple[int, int, str]] = []
        self.settings: dict[int, Mapping[str, Any]] = {}
        self.members: dict[int, Member] = {}
        self.nodes: dict[int, Mapping[str, Any]] = {}
        self.heard_by: dict[int, set[int]] = {}  # node -> the directories that it reaches; all if it is not here
        self._call = self.clock.callLater(0.5, self._beat)

    def start(self, *numbers: int, kind: "type[Member]" = Member) -> None:
        for number in numbers or self.numbers:
            self.dead.discard(number)
            self.members[number] = kind(self, number, self.settings.get(number, {}))
            self.members[number].agreement.startService()

    def kill(self, number: int) -> None:
        self.dead.add(number)
        self.members[number].agreement.stopService()

    def stop(self) -> None:
        self._call.cancel()
        for number, member in self.members.items():
            if number not in self.dead:
                member.agreement.stopService()
        self.clock.advance(30)
        left = self.clock.getDelayedCalls()
        assert not left, left

    def run(self, versions: float) -> None:
        self.clock.advance(versions * REFRESH)

    def add_node(self, number: int, role: str = "mixnode", **more: Any) -> None:
        layer = {"layer": (number - 1) % 3 + 1} if role == "mixnode" else {}
        fields = {"host": "10.0.0.1", "port": 2000 + number, "keys": {1: bytes([number]) * 32}, **layer, **more}
        self.nodes[number] = {"role": role, **fields}

    def heartbeat(self, number: int, **more: Any) -> dict[str, Any]:
        fields = {**self.nodes[number], **more}
        return signed_heartbeat(
            **fields, timestamp=int(self.clock.wall_clock() * 1e9), signing_key=node_key(number), version="1"
        )

    def delay(self, source: int, target: int) -> float:
        quick = 0.01 if {source, target} & self.quick else self.latency
        slowest = max(self.slow.get(source, 0.0), self.slow.get(target, 0.0), quick)
        return slowest * self.random.uniform(0.2, 1.0)

    def is_cut(self, source: int, target: int) -> bool:
        return bool({source, target} & self.dead) or (source, target) in self.cuts

    def partition(self, *groups: set[int]) -> None:
        """Who is in different groups does not hear each other; with no groups all do again."""
        self.cuts = {(one, other) for group in groups for one in group for other in self.numbers if other not in group}
        self.cuts |= {(other, one) for one, other in self.cuts}

    def topology(self, number: int) -> Topology:
        """What a client accepts that asks this directory."""
        return verify_topology(self.members[number].topology_store.document(), self.trust, self.clock.wall_clock())

    def topologies(self, *numbers: int) -> list[Topology]:
        return [self.topology(number) for number in numbers]

    def serials(self, *numbers: int) -> list[int]:
        return [self.topology(number).serial for number in numbers]

    def _beat(self) -> None:
        self._call = self.clock.callLater(2.0, self._beat)
        for number in sorted(self.nodes):
            post = self.heartbeat(number)
            read = None if self.skews else read_heartbeat(post, self.clock.wall_clock())
            for member in self.heard_by.get(number, set(self.numbers)) - self.dead:
                self.clock.callLater(self.delay(0, member), self._deliver, member, post, read)

    def _deliver(self, member: int, post: Mapping[str, Any], read: Heartbeat | None) -> None:
        if member not in self.dead and member in self.members:
            try:
                self.members[member].hear(post, read)
            except (DirectoryError, EncodingError) as error:
                self.refused.append((0, member, str(error)))


class Liar(Member):
    """A directory that runs as the others do, and says what a test wants."""

    def __init__(self, council: Council, number: int, settings: Mapping[str, Any]) -> None:
        super().__init__(council, number, settings)
        self.council = council
        self.bodies: dict[bytes, bytes] = {}
        self.heard: list[Notice] = []
        self.lie: Callable[[int, Notice], Notice | None] = lambda target, notice: notice
        self.gives: Callable[[int], bool] = lambda source: True

    @staticmethod
    def encode(notice: Notice) -> bytes:
        return to_cbor(notice)

    def tell(self, target: int, notice: bytes) -> bytes | None:
        told = self.lie(target, from_cbor(notice, Notice, NOTICE_LIMIT))
        return None if told is None else to_cbor(told)

    def receive(self, notice: bytes) -> None:
        self.heard = [*self.heard[-50:], from_cbor(notice, Notice, NOTICE_LIMIT)]
        super().receive(notice)

    def part(self, digest: bytes, source: int) -> bytes:
        if digest in self.bodies:
            if not self.gives(source):
                raise DirectoryError("not for you")
            return self.bodies[digest]
        return super().part(digest, source)

    def vote(self, serial: int, nodes: Sequence[Seen], **more: Any) -> bytes:
        """The digest of a vote of this one, which it gives out from now on."""
        fields = {
            "network": self.council.trust.network,
            "serial": serial,
            "voter": self.identity,
            "settings": {**self.terms.settings(), "threshold": f"{self.council.trust.threshold}"},
            "admission": bytes(32),
            "base_serial": 0,
            "base": bytes(32),
            "nodes": tuple(sorted(nodes, key=lambda seen: seen.identity)),
        }
        body = to_cbor(Vote(**{**fields, **more}))
        self.bodies[digest_of(body)] = body
        return digest_of(body)

    def cast(self, serial: int, name: bytes, *signers: "Member") -> HeardVote:
        """A vote of this one with its own signature, and those of `signers`."""
        content = vote_bytes(self.council.trust.network, serial, self.identity, name)
        return HeardVote(self.identity, name, {each.identity: sign(each.key, content) for each in (self, *signers)})

    def seen(self, number: int) -> Seen:
        """A node that may be nobody's."""
        statement = Statement(record=read_heartbeat(self.council.heartbeat(number), self.wall()).record)
        return Seen(node_identity(number), (self.agreement.view.keep(to_cbor(statement)),))


def identities(topology: Topology) -> set[bytes]:
    return {node.identity for node in topology.nodes}


def agreed(council: Council, *honest: int) -> dict[int, Topology]:
    """What the honest have published, by serial: the same for all of them."""
    found: dict[int, bytes] = {}
    for number in honest:
        for put in council.members[number].put:
            document = from_cbor(put, SignedTopology, MAX_TOPOLOGY_LENGTH).document
            serial = from_cbor(document, Topology, MAX_TOPOLOGY_LENGTH).serial
            assert found.setdefault(serial, document) == document
    return {serial: from_cbor(found[serial], Topology, MAX_TOPOLOGY_LENGTH) for serial in sorted(found)}


def unbroken(council: Council, *honest: int) -> None:
    """They agree, and no version failed."""
    serials = list(agreed(council, *honest))
    assert serials == list(range(serials[0], serials[-1] + 1, STEP))
    for number in honest:
        # One may have been started later, and one's last version may not be out yet.
        assert len(council.members[number].put) >= len(serials) - 1
