"""The directory itself, without HTTP: heartbeats and metrics in, lists and the signed topology out."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import implementer

from nymtw.directory.attendance import AttendedClock
from nymtw.directory.consensus.agreement import Agreement
from nymtw.directory.consensus.topology_store import TopologyStore
from nymtw.directory.post_gate import PostGate, check_is_newer, claimed_identity
from nymtw.directory.registry import Entry, Registry, is_loopback
from nymtw.directory.traffic_windows import TrafficWindows
from nymtw.directory.unsigned_presence import UnsignedPresence, read_unsigned, read_unsigned_metric
from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, EncodingError, TopologyError
from nymtw.interfaces import IDirectory
from nymtw.topology.document import ANY, GATEWAY, MIXNODE, PROVIDER, NodeRecord
from nymtw.topology.presence import Metric, read_heartbeat, read_metric, read_validator

# The last part of the path of /api/presence/..., and the role that announces itself there.
PATHS: Mapping[str, str] = {"mixnodes": MIXNODE, "mixproviders": PROVIDER, "gateways": GATEWAY, "nodes": ANY}
# The role's list in GET /api/presence/topology, and as later releases wrote it.
LISTS: Mapping[str, str] = {MIXNODE: "MixNodes", PROVIDER: "MixProviderNodes", GATEWAY: "GatewayNodes"}
VALIDATORS = "coconodes"
# The paths for unsigned posts of the first networks.
UNSIGNED = tuple(path for path, role in PATHS.items() if role in LISTS)
LIST_NAMES = ("CocoNodes", *LISTS.values())

MOST_PACKETS = 10**9  # in one metric


class Directory:
    """Registry, publisher and metrics as one. A refusal is a `DirectoryError` or `EncodingError` with its reason."""

    def __init__(
        self,
        registry: Registry,
        publisher: TopologyStore,
        metrics: TrafficWindows,
        wall_clock: Callable[[], float],
        unsigned_presence: UnsignedPresence,
        *,
        admission: Callable[[bytes], bool] = lambda identity: True,
        unsigned: bool = False,
        identity: bytes = b"",
        agreement: Agreement | None = None,
        attended: AttendedClock | None = None,
    ) -> None:
        """`unsigned_presence` shows validators; with `unsigned`, also unsigned posts of this machine.

        `identity` (32 bytes) is this directory's, and `agreement` takes part for it where several sign together.
        `attended` is the clock of `registry`, if that is one: the caller starts it with the directory.
        """
        self.identity = identity or publisher.trust.directories[0]
        self.agreement = agreement
        self.attended = attended
        self.unsigned_presence = unsigned_presence
        self._admits = admission
        self._unsigned = unsigned
        self.line_accepted: Callable[[str, int, int, int], None] = lambda key, sent, received, timestamp: None
        self.registry = registry
        self.gate = PostGate(registry)
        self.publisher = publisher
        self.windows = metrics
        self._wall_clock = wall_clock
        self.metric_accepted: Callable[[Metric], None] = lambda metric: None
        self.posts: Counter[tuple[str, bool]] = Counter()  # (path, accepted) -> how many

    def announce(self, path: str, body: object, source: str) -> None:
        """Take the JSON value that was posted to the presence `path` from the address `source`."""
        self._counted(path, lambda: self._announce(path, body, source))

    def report(self, body: object, source: str = "") -> None:
        """Take the JSON value of a metric that was posted from the address `source`."""
        self._counted("metrics", lambda: self._report(body, source))

    def metrics(self) -> list[Mapping[str, Any]]:
        """The last complete window of metrics."""
        return self.windows.complete(self._is_mixnode)

    def presence(self, lower: bool = False) -> dict[str, list[Mapping[str, Any]]]:
        """The present nodes: each one's last post, and `lastSeen` in nanoseconds; `lower` for mixNodes and so on."""
        lists: dict[str, list[Mapping[str, Any]]] = {name: [] for name in LIST_NAMES}
        for entry in self.registry.present():
            record = self.placed(entry)
            name = LISTS.get(record.role)
            if name is not None:
                lists[name].append({**in_place(entry.post, record), "lastSeen": entry.last_seen})
        for path, name in {**{path: LISTS[PATHS[path]] for path in UNSIGNED}, VALIDATORS: "CocoNodes"}.items():
            lists[name] += [{**shown.post, "lastSeen": shown.last_seen} for shown in self.unsigned_presence.posts(path)]
        return {lower_first(name) if lower else name: nodes for name, nodes in lists.items()}

    def nodes(self) -> list[Mapping[str, Any]]:
        """The present nodes by identity, for people; without values that change with every heartbeat."""
        return [describe(entry, self.placed(entry)) for entry in self.registry.present()]

    def silent(self) -> list[Mapping[str, Any]]:
        """The absent nodes that are still in the signed topology, by identity, for people."""
        newest = self.publisher.newest
        records = [member.record for member in self.registry.silent()]
        found = [(newest.find(record.identity) if newest else None) or record for record in records]
        return [{"identityKey": key_text(node.identity), "role": node.role, "layer": node.layer} for node in found]

    def placed(self, entry: Entry) -> NodeRecord:
        """The node's record, in the role that it has now; it is "any" for a moment where the directory decides that."""
        if entry.record.role != ANY:
            return entry.record
        try:
            return self.publisher.topology().find(entry.record.identity) or entry.record
        except TopologyError:  # several directories have not yet agreed on one
            return entry.record

    @property
    def revision(self) -> int:
        """Grows whenever a list of nodes and validators, with their details, would differ."""
        return self.registry.revision + self.unsigned_presence.revision + self.publisher.placements

    def validators(self) -> list[Mapping[str, Any]]:
        """The validators, for people; `lastSeen` is in milliseconds since 1970, `blockTime` in nanoseconds."""
        return [
            {
                "pubKey": shown.post["pubKey"],
                "host": shown.post["host"],
                "type": shown.post["type"],
                "lastSeen": shown.last_seen // 10**6,
                "height": shown.post.get("height"),
                "blockTime": shown.post.get("blockTime") or 0,
            }
            for shown in self.unsigned_presence.posts(VALIDATORS)
        ]

    def _announce(self, path: str, body: object, source: str) -> None:
        if self._may_be_unsigned(body, source) and path in (VALIDATORS, *UNSIGNED):
            post = read_unsigned(path, body)
            self.unsigned_presence.put(path, post["pubKey"], post, int(self._wall_clock() * 1e9))
            return
        # Identity, admission and limits cost nothing, and come before the signature.
        identity = claimed_identity(body)
        if not self._admits(identity):
            raise DirectoryError(f"{key_text(identity)} is not admitted here")
        if path == VALIDATORS:
            self.gate.enter(identity, source)
            validator = read_validator(body, self._wall_clock())
            # Never a clash with an unsigned one: a key is shorter.
            place = f"signed by {validator.identity_key}"
            said = {name: value for name, value in msgspec.to_builtins(validator).items() if value is not None}
            self.unsigned_presence.put(path, place, said, validator.timestamp)
            return
        check_is_newer(body, self.registry.newest(identity))
        self.gate.enter(identity, source)
        heartbeat = read_heartbeat(body, self._wall_clock())
        role = heartbeat.record.role
        if role != PATHS.get(path):
            raise DirectoryError(f"a {role} does not announce itself here")
        assert isinstance(body, dict), "it was read"
        self.registry.accept(heartbeat, body, source)

    def _may_be_unsigned(self, body: object, source: str) -> bool:
        return self._unsigned and is_loopback(source) and isinstance(body, dict) and "signature" not in body

    def _report(self, body: object, source: str) -> None:
        now = int(self._wall_clock() * 1e9)
        if self._may_be_unsigned(body, source):
            key, sent, received = read_unsigned_metric(body)
            if not self.unsigned_presence.has("mixnodes", key):
                raise DirectoryError("no mixnode with this key is announced")
            self.windows.accept(Metric(b"unsigned " + key.encode(), key, sent, received, now), self._is_mixnode)
            self.line_accepted(key, sent, received, now)
            return
        identity = claimed_identity(body)
        entry = self.registry.find(identity)
        if entry is None or self.placed(entry).role != MIXNODE:
            raise DirectoryError("no mixnode with this identity is announced")
        self.gate.enter(identity, source)
        metric = read_metric(body, self._wall_clock())
        if metric.public_key not in map(key_text, entry.record.sphinx_keys.values()):
            raise DirectoryError("pubKey: this mixnode has announced another key")
        if max(metric.sent, metric.received, metric.loops_sent, metric.loops_returned) > MOST_PACKETS:
            raise DirectoryError(f"no node carries more than {MOST_PACKETS} packets at once")
        self.windows.accept(metric, self._is_mixnode)
        self.metric_accepted(metric)

    def _is_mixnode(self, identity: bytes) -> bool:
        if identity.startswith(b"unsigned "):
            return self.unsigned_presence.has("mixnodes", identity.removeprefix(b"unsigned ").decode())
        entry = self.registry.find(identity)
        return entry is not None and self.placed(entry).role == MIXNODE

    def _counted(self, path: str, take: Callable[[], None]) -> None:
        try:
            take()
        except (DirectoryError, EncodingError):
            self.posts[path, False] += 1
            raise
        self.posts[path, True] += 1


def lower_first(name: str) -> str:
    """MixNodes -> mixNodes."""
    return name[0].lower() + name[1:]


def in_place(post: Mapping[str, Any], record: NodeRecord) -> Mapping[str, Any]:
    """What a node has posted; of one that takes any role, with the names that those of the role of `record` use."""
    if post["role"] != ANY:
        return post
    if record.role == MIXNODE:
        return {**post, "layer": record.layer}
    if record.role == GATEWAY:
        return {("mixnetListener" if name == "host" else name): value for name, value in post.items()}
    return post


def describe(entry: Entry, record: NodeRecord) -> dict[str, Any]:
    """A node as the dashboard shows it, in the role of `record`: JSON-able, `since` in milliseconds since 1970."""
    heartbeat = entry.heartbeat
    return {
        "identityKey": key_text(record.identity),
        "pubKey": entry.post["pubKey"],
        "role": record.role,
        "layer": record.layer,
        "host": record.host,
        "port": record.port,
        "clientPort": record.client_port,
        "keyEpochs": sorted(record.sphinx_keys),
        "clients": heartbeat.number,
        "services": sorted(record.services or ()),
        "version": heartbeat.version,
        "description": heartbeat.description,
        "country": heartbeat.country,
        "since": entry.since // 10**6,
    }


@implementer(IDirectory)
class LocalDirectory:
    """A `Directory` in the same process, as nodes and clients see it."""

    def __init__(self, directory: Directory, source: str = "127.0.0.1") -> None:
        """`source` is the address that posts seem to come from."""
        self._directory = directory
        self._source = source

    def announce(self, path: str, heartbeat: Mapping[str, Any]) -> "Deferred[None]":
        """Post one heartbeat."""
        return maybeDeferred(_refusing, lambda: self._directory.announce(path, dict(heartbeat), self._source))

    def topology(self) -> "Deferred[bytes]":
        """The newest signed topology."""
        return maybeDeferred(self._document)

    def report(self, metric: Mapping[str, Any]) -> "Deferred[None]":
        """Post one metric."""
        return maybeDeferred(_refusing, lambda: self._directory.report(dict(metric), self._source))

    def _document(self) -> bytes:
        try:
            return self._directory.publisher.document()
        except TopologyError as error:
            raise DirectoryError(str(error)) from None


def _refusing(take: Callable[[], None]) -> None:
    try:
        take()
    except EncodingError as error:
        raise DirectoryError(str(error)) from None
