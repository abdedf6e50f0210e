"""The registry of nodes: signed heartbeats in, live nodes and members out. No I/O; both clocks are arguments.

A node is shown while it speaks, and a member of the consensus for longer: a network must not come and go with the
stalls of a machine, its directory's least of all.
"""

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any, NamedTuple

import msgspec

from nymtw.directory.retention import Retention
from nymtw.encoding import key_text
from nymtw.errors import DirectoryError
from nymtw.topology.document import ANY, LAYERS, MIXNODE, NodeRecord, PublicClient, Topology
from nymtw.topology.kinship import prefix_of
from nymtw.topology.presence import MAX_SKEW, Heartbeat

SILENCE = 5.0  # seconds after its last heartbeat a node is shown no more
CAPACITY = 10_000  # identities
PER_PREFIX = 8  # nodes of one /24 or /48, for whom nobody vouches
PER_ADDRESS = 256  # identities announced from one address, loopback excepted
MOST_LISTED = 100_000  # listed clients of all nodes: the topology has room for fewer, these take 100 MB

_PAGING = ("clientsPage", "clientsPages")  # not shown: the list is


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a node's listed clients, and as it posted them."""

    clients: tuple[PublicClient, ...]
    posted: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A node as it announced itself last."""

    post: Mapping[str, Any]  # the JSON object, its host filled in
    record: NodeRecord
    clients: tuple[PublicClient, ...]
    source: str  # the address the post came from
    timestamp: int  # nanoseconds since 1970, by the node's clock
    last_seen: int  # nanoseconds since 1970, by ours
    seen: float  # by the clock that is never stepped
    heartbeat: Heartbeat
    since: int  # when it was first seen since it was last gone, nanoseconds since 1970
    pages: Mapping[int, Page] = field(default_factory=dict)  # of a list that comes in several heartbeats


class Member(NamedTuple):
    """The part of a node, which may be silent, in the consensus: its last announcement.

    `announced` is that with its host filled in; `record` has the layer that was assigned, too.
    """

    announced: NodeRecord
    record: NodeRecord
    clients: tuple[PublicClient, ...]
    seen: float  # time of its last heartbeat, by the clock that is never stepped
    pages: Mapping[int, Page] = {}


class Registry:
    """The live nodes, and the members of the consensus, by `seconds`, which no clock step moves.

    A node is live until `SILENCE` seconds after its last heartbeat, and a member as long as `retention` says. At most
    `capacity` identities are remembered, those among them that are gone but whose heartbeats could still be replayed.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        *,
        retention: Retention | None = None,
        capacity: int = CAPACITY,
        per_address: int = PER_ADDRESS,
        per_prefix: int = PER_PREFIX,
        vouched: Callable[[bytes], bool] = lambda identity: False,
        secret: bytes = b"",
        trust_hosts: bool = False,
        is_own_address: Callable[[str], bool] = lambda host: False,
        admits: Callable[[bytes], bool] = lambda identity: True,
        assigned: Mapping[bytes, int] | None = None,
        agreed_layer: Callable[[bytes], int] | None = None,
    ) -> None:
        """`retention`: how long a silent node is a member. `trust_hosts`: believe any host. `is_own_address(host)`:
        whether this machine has that address. `admits(identity)`: whether that node may be here. `assigned`: the layers
        that mixnodes had before a restart. `agreed_layer(identity)`: the layer (0: none yet) of a mixnode that asks for
        one, where several directories assign them together. `per_prefix`: nodes of one /24 or /48 (0: any number), and
        `vouched(identity)`: whether an operator has listed this one, for whom neither that limit nor chance holds.
        `secret`: what only this directory knows, and chance comes from.
        """
        self._agreed_layer = agreed_layer
        self.admits = admits
        self._layers = dict(assigned or {})
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._retention = retention or Retention()
        self._capacity = capacity
        self._per_address, self._per_prefix = per_address, per_prefix
        self._vouched, self._secret = vouched, secret
        self._trust_hosts = trust_hosts
        self._is_own_address = is_own_address
        # In the order of their last heartbeats, so that what is to be forgotten stands in front.
        self._live: dict[bytes, Entry] = {}
        self._gone: dict[bytes, tuple[int, float]] = {}  # identity -> (newest timestamp, when it was seen)
        self._silent: dict[bytes, Member] = {}  # members that are gone
        self._weigh_at = 0.0
        self._places: dict[tuple[str, int], bytes] = {}
        self._sources: Counter[str] = Counter()
        self._clients = 0  # listed ones, of all members
        self.version = 0  # grows whenever a topology made now would differ
        self.revision = 0  # grows whenever a list of the nodes, with their details, would differ

    def seconds(self) -> float:
        """The clock that is never stepped."""
        return self._seconds()

    def has_source(self, source: str) -> bool:
        """Whether a node that is there has announced itself from this address."""
        return source in self._sources

    def is_from(self, identity: bytes, source: str) -> bool:
        """Whether the node with this identity is there, and has announced itself from this address."""
        entry = self._live.get(identity)
        return entry is not None and entry.source == source

    def newest(self, identity: bytes) -> int:
        """The timestamp of the newest heartbeat of this identity; -1 for none."""
        known = self._live.get(identity)
        return known.timestamp if known else self._gone.get(identity, (-1, 0.0))[0]

    @property
    def remembered(self) -> frozenset[bytes]:
        """Identities of nodes that are gone, and whose heartbeats could still be replayed."""
        return frozenset(self._gone)

    def accept(self, heartbeat: Heartbeat, post: Mapping[str, Any], source: str) -> Entry:
        """Take a heartbeat whose signature and skew have been checked; `post` is its JSON, `source` where it came from.

        Raises `DirectoryError` with the reason: an old timestamp, a host that is not the sender's, an address and port
        that another node has, too many nodes.
        """
        self.expire()
        identity = heartbeat.record.identity
        known = self._live.get(identity)
        if heartbeat.timestamp <= self.newest(identity):
            raise DirectoryError("this heartbeat is not newer than the last one of this identity")
        if not self.admits(identity):
            raise DirectoryError(f"{key_text(identity)} is not admitted here")
        host = self._host(heartbeat.record.host, source)
        record = msgspec.structs.replace(heartbeat.record, host=host, layer=self._layer(heartbeat.record, host))
        for place in _places(record):
            if self._places.get(place, identity) != identity:
                host, port = place
                raise DirectoryError(f"{host} port {port} belongs to another node")
        if known is None:
            self._make_room(identity, source, prefix_of(host))
        else:
            self._remove(known)
        now = int(self._wall_clock() * 1e9)
        before = known or self._silent.pop(identity, None)
        if before is not None:
            self._clients -= len(before.clients)
        clients, pages, posted = self._clients_of(before, heartbeat, post)
        entry = Entry(
            {name: value for name, value in post.items() if name not in _PAGING} | posted | _filled_in(post, record),
            record,
            clients,
            source,
            heartbeat.timestamp,
            now,
            self._seconds(),
            heartbeat,
            known.since if known else now,
            pages,
        )
        self._gone.pop(identity, None)
        self._add(entry)
        if before is None or before.record != record:
            for other in self._at_the_place_of(record):
                self._forget(other)
        if before is None or (before.record, before.clients) != (entry.record, entry.clients):
            self.version += 1
        if known is None or _shown(known) != _shown(entry):
            self.revision += 1
        return entry

    def restore(self, topology: Topology) -> None:
        """Its nodes are members that have been silent since now: what was signed before a restart outlives it."""
        clients: dict[bytes, list[PublicClient]] = {}
        for client in topology.clients:
            clients.setdefault(client.provider, []).append(client)
        now = self._seconds()
        for node in topology.nodes[: self._capacity]:
            if node.identity in self._live or not self.admits(node.identity):
                continue
            announced = msgspec.structs.replace(node, role=ANY, layer=0, places=msgspec.UNSET) if node.places else node
            self._silent[node.identity] = Member(announced, announced, tuple(clients.get(node.identity, ())), now)
            self._gone[node.identity] = (-1, now)
            self._clients += len(clients.get(node.identity, ()))
        self.version += 1

    def expire(self) -> None:
        """Show no more who has been silent for long, and forget who has been for too long."""
        now = self._seconds()
        for entry in list(self._overdue(now - SILENCE)):
            self._leave(entry)
            self._silent[entry.record.identity] = self._member(entry)
        if self._silent and now >= self._weigh_at:
            # At most twice a second: with thousands of nodes it is asked for with every heartbeat.
            self._weigh_at = now + 0.5
            live = [entry.record for entry in self._live.values()]
            for identity in self._retention.leaving(live, list(self._silent.values()), now):
                self._forget(identity)
        # A heartbeat may be dated ahead by the skew that is allowed, and is refused once it is as far behind.
        before = now - 2 * MAX_SKEW - 1
        overdue = takewhile(lambda identity: self._gone[identity][1] < before, self._gone)
        for identity in [identity for identity in overdue if identity not in self._silent]:
            del self._gone[identity]

    def drop_the_unadmitted(self) -> None:
        """Forget the nodes that a new policy does not admit."""
        for entry in list(self._live.values()):
            if not self.admits(entry.record.identity):
                self._leave(entry)
                self._clients -= len(entry.clients)
                self.version += 1
        for identity in [identity for identity in self._silent if not self.admits(identity)]:
            self._forget(identity)

    def present(self) -> list[Entry]:
        """The nodes that are there, by identity."""
        self.expire()
        return [self._live[identity] for identity in sorted(self._live)]

    def members(self) -> list[Member]:
        """The members of the consensus, by identity: the live nodes, and those that have not been silent for long."""
        self.expire()
        members = {identity: self._member(entry) for identity, entry in self._live.items()} | self._silent
        return [members[identity] for identity in sorted(members)]

    def silent(self) -> list[Member]:
        """The members that are not live, by identity."""
        self.expire()
        return [self._silent[identity] for identity in sorted(self._silent)]

    def find(self, identity: bytes) -> Entry | None:
        """The node with this identity (32 bytes), if it is there."""
        self.expire()
        return self._live.get(identity)

    def __len__(self) -> int:
        self.expire()
        return len(self._live)

    def _leave(self, entry: Entry) -> None:
        self._remove(entry)
        self._gone[entry.record.identity] = (entry.timestamp, entry.seen)
        self.revision += 1

    def _forget(self, identity: bytes) -> None:
        """Remove a member."""
        self._clients -= len(self._silent.pop(identity).clients)
        self.version += 1
        self.revision += 1

    def _at_the_place_of(self, record: NodeRecord) -> list[bytes]:
        """The silent members whose address and port this node has now."""
        taken = set(_places(record))
        return [identity for identity, member in self._silent.items() if taken.intersection(_places(member.record))]

    def _clients_of(
        self, known: "Entry | Member | None", heartbeat: Heartbeat, post: Mapping[str, Any]
    ) -> tuple[tuple[PublicClient, ...], Mapping[int, Page], dict[str, Any]]:
        """The listed clients of a node, their pages if there are several, and what is to stand in its post.

        `known` is its previous post, which is counted no more.
        """
        before = known.clients if known else ()
        pages: dict[int, Page] = {}
        clients = heartbeat.clients
        posted: dict[str, Any] = {}
        if heartbeat.pages > 1:
            old = known.pages if known else {}
            pages = {number: page for number, page in old.items() if number < heartbeat.pages}
            page = Page(heartbeat.clients, post["registeredClients"])
            if known and len(pages) == len(old) and old.get(heartbeat.page) == page:
                return before, old, {"registeredClients": _posted(old)}
            pages[heartbeat.page] = page
            in_order = [pages[number] for number in sorted(pages)]
            clients = tuple(dict.fromkeys(chain.from_iterable(each.clients for each in in_order)))
            posted = {"registeredClients": _posted(pages)}
        if len(clients) > len(before) and self._clients + len(clients) > MOST_LISTED:
            # There is no room for more: what is known stays.
            kept = known.post.get("registeredClients", ()) if isinstance(known, Entry) else ()
            return before, known.pages if known else {}, {"registeredClients": kept}
        return clients, pages, posted

    def _layer(self, record: NodeRecord, host: str) -> int:
        """The layer a node works in, which it keeps. One that is not vouched for, at a public address, has no choice:
        all of one prefix are in one layer, by chance. Another one that asks for none gets the thinnest.
        """
        prefix = prefix_of(host)
        chance = bool(prefix) and not self._vouched(record.identity)
        if record.role != MIXNODE or (record.layer and not chance):
            return record.layer
        if self._agreed_layer is not None:
            return self._agreed_layer(record.identity)
        layer = self._layers.get(record.identity)
        if layer is None:
            records = [each.record for each in chain[Entry | Member](self._live.values(), self._silent.values())]
            others = Counter(each.layer for each in records if each.identity != record.identity)
            if chance:
                empty = [each for each in LAYERS if not others[each]]
                layer = self._lot(prefix, empty or list(LAYERS))
            else:
                layer = min(LAYERS, key=lambda each: (others[each], each))
            if len(self._layers) >= self._capacity:
                del self._layers[next(iter(self._layers))]
        else:
            del self._layers[record.identity]
        self._layers[record.identity] = layer  # the one that asked last stands behind
        return layer

    def _member(self, entry: Entry) -> Member:
        """The node's part in the consensus; it asks for no layer where it has no choice."""
        announced = msgspec.structs.replace(entry.heartbeat.record, host=entry.record.host)
        if prefix_of(announced.host) and not self._vouched(announced.identity):
            announced = msgspec.structs.replace(announced, layer=0)
        return Member(announced, entry.record, entry.clients, entry.seen, entry.pages)

    def _lot(self, prefix: str, layers: Sequence[int]) -> int:
        """One of these layers: the same for all nodes of a prefix, and known to nobody before."""
        drawn = hashlib.blake2b(prefix.encode(), digest_size=8, key=self._secret, person=b"nymtw layers").digest()
        kin = [each.record for each in chain[Entry | Member](self._live.values(), self._silent.values())]
        there = [each.layer for each in kin if each.role == MIXNODE and prefix_of(each.host) == prefix]
        return there[0] if there else layers[int.from_bytes(drawn) % len(layers)]

    def _host(self, host: str, source: str) -> str:
        """The address a node is reached at."""
        if not host:
            return source
        if host == source or self._trust_hosts:
            return host
        # A node on the directory's own machine may reach it by loopback and be reached by another address.
        if is_loopback(source) and self._is_own_address(host):
            return host
        raise DirectoryError(f"the host {host} is not the address that the post came from, {source}")

    def _make_room(self, identity: bytes, source: str, prefix: str) -> None:
        if self._per_prefix and prefix and identity not in self._silent and not self._vouched(identity):
            there = chain[Entry | Member](self._live.values(), self._silent.values())
            if sum(prefix_of(each.record.host) == prefix for each in there) >= self._per_prefix:
                raise DirectoryError(f"{self._per_prefix} nodes of {prefix} are there: that is the most")
        if not is_loopback(source) and self._sources[source] >= self._per_address:
            raise DirectoryError(f"{self._per_address} nodes have been announced from {source}: that is the most")
        if identity not in self._gone and len(self._live) + len(self._gone) >= self._capacity:
            raise DirectoryError(
                f"this directory keeps {self._capacity} nodes: it has no room for {key_text(identity)}"
            )

    def _add(self, entry: Entry) -> None:
        self._live[entry.record.identity] = entry
        self._clients += len(entry.clients)
        self._sources[entry.source] += 1
        for place in _places(entry.record):
            self._places[place] = entry.record.identity

    def _remove(self, entry: Entry) -> None:
        del self._live[entry.record.identity]
        self._sources[entry.source] -= 1
        if not self._sources[entry.source]:
            del self._sources[entry.source]
        for place in _places(entry.record):
            self._places.pop(place, None)

    def _overdue(self, before: float) -> "list[Entry]":
        overdue = []
        for entry in self._live.values():
            if entry.seen >= before:
                break
            overdue.append(entry)
        return overdue


def _posted(pages: Mapping[int, Page]) -> list[Any]:
    """The listed clients of all pages, as they were posted."""
    return [*chain.from_iterable(pages[number].posted for number in sorted(pages))]


def _shown(entry: Entry) -> tuple[object, ...]:
    """The values of a node for people, without those that change every two seconds."""
    heartbeat = entry.heartbeat
    return entry.record, heartbeat.number, heartbeat.version, heartbeat.description, heartbeat.country


def _places(record: NodeRecord) -> list[tuple[str, int]]:
    """The endpoints of a node."""
    return [(record.host, port) for port in (record.port, record.client_port) if port]


def is_loopback(address: str) -> bool:
    """Whether this is an address of the machine itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _filled_in(post: Mapping[str, Any], record: NodeRecord) -> dict[str, Any]:
    """The post's addresses ("ip:port"), with the host that an empty one stood for, and the layer that was assigned."""
    host = f"[{record.host}]" if ":" in record.host else record.host
    layer = {"layer": record.layer} if record.role == MIXNODE else {}
    return layer | {
        field: f"{host}{post[field]}"
        for field in ("host", "mixnetListener", "clientListener")
        if str(post.get(field, "")).startswith(":")
    }
