"""A directory that runs: its parts, on a port."""

import hashlib
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from nymtw.directory.admission import Admission
from nymtw.directory.api import DirectoryApi
from nymtw.directory.attendance import AttendedClock
from nymtw.directory.config import HEADING, DirectoryConfig, recommended
from nymtw.directory.consensus.api import agreement_routes
from nymtw.directory.consensus.peers import IPeer, parse_peer
from nymtw.directory.consensus.publisher import Publisher
from nymtw.directory.consensus.setup import ConsensusSetup
from nymtw.directory.consensus.topology_store import Terms, TopologyStore
from nymtw.directory.core import Directory
from nymtw.directory.dashboard.history import open_history
from nymtw.directory.dashboard.live_feed import LiveFeed
from nymtw.directory.dashboard.pages import page_routes
from nymtw.directory.dashboard.recorder import Recorder
from nymtw.directory.dashboard.views import DashboardApi
from nymtw.directory.https import server_security
from nymtw.directory.metrics import DirectoryMetrics
from nymtw.directory.openapi import describing, websocket
from nymtw.directory.registry import Registry, is_loopback
from nymtw.directory.retention import Retention
from nymtw.directory.traffic_windows import TrafficWindows
from nymtw.directory.unsigned_presence import UnsignedPresence
from nymtw.encoding import from_cbor, key_text
from nymtw.errors import EncodingError
from nymtw.node.announce.placement import check_host, default_host, is_unspecified
from nymtw.node.config import load_config
from nymtw.node.directories.http_directory import check_directory_url
from nymtw.node.home import NodeHome, write_file
from nymtw.node.keys import load_or_create_identity
from nymtw.node.networks import NETWORK_PATH, Network
from nymtw.node.service import Listener, NodeService
from nymtw.topology.document import ANY, MAX_TOPOLOGY_LENGTH, MIXNODE, NodeRecord, SignedTopology, Topology
from nymtw.topology.presence import endpoint_text
from nymtw.web.http import Answer, Call, Route, RoutesResource, bounded_site
from nymtw.web.openapi import reading

SOCKETS = {
    "/ws": "A websocket: once a second a text frame with a JSON object a line for every metric",
    "/api/v1/live": "A websocket for the dashboard: once a second a row for every node",
}


class DirectoryService(NodeService):
    """Answers HTTP on one port."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: Directory,
        host: str,
        port: int,
        key_file: Path | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        recorder: Recorder | None = None,
        admission: Admission | None = None,
        security: Any = None,
        https_port: int = 0,
        public_url: str = "",
        others: Sequence[str] = (),
        network_file: Path | None = None,
    ) -> None:
        """`key_file`: where the public identity key is, for the log. Without `recorder`, the history of
        metrics is in memory. `admission` is reread each second. With `security` there is HTTPS on `https_port`.
        The network's file, with this directory's URL and those of the `others`, is served and kept in `network_file`.
        """
        super().__init__()
        self.directory = directory
        self._host = host
        self._admission = admission
        self._key_file = key_file
        self._public_url, self._others, self._network_file = public_url, tuple(others), network_file
        rereading: list[Callable[[], None]] = []
        if admission is not None:
            rereading.append(lambda: admission.reread(directory.registry.drop_the_unadmitted))
        if recorder is None:
            recorder = Recorder(reactor, wall_clock, lambda: open_history(":memory:"), maybeDeferred)
        self.add(recorder)
        if directory.attended is not None:
            self.add(directory.attended)
        if directory.agreement is not None:
            self.add(directory.agreement)
        self.live_feed = self.add(LiveFeed(reactor, wall_clock, directory, recorder, rereading))
        metrics_text = DirectoryMetrics(directory)
        table = [
            *DirectoryApi(directory, metrics_text).routes(),
            *agreement_routes(directory),
            *DashboardApi(directory, recorder, wall_clock).routes(),
            Route(
                "GET",
                NETWORK_PATH,
                self._serve_network,
                reading("The network in a file, for `nymtw network add`", {"type": "string"}, kind="text/plain"),
            ),
        ]
        described = describing([*table, *(websocket(path, summary) for path, summary in SOCKETS.items())])
        table += [described, *page_routes()]
        upgrades = {"/ws": self.live_feed.metrics.take_over, "/api/v1/live": self.live_feed.dashboards.take_over}
        self.resource = RoutesResource(table, metrics_text.count, upgrades)
        self._listener = self.add(Listener(reactor, host, port, bounded_site(self.resource, reactor)))
        self._secure: Any = None
        if security is not None:
            site = bounded_site(self.resource, reactor, security)
            self._secure = self.add(Listener(reactor, host, https_port, site))

    @classmethod
    def from_config(cls, reactor: Any, home: NodeHome, config: DirectoryConfig) -> "DirectoryService":
        """Wire everything for a home that exists and is locked. Raises `KeyFileError`, `ConfigError`."""
        section = config.directory
        identity = load_or_create_identity(home)
        kept = home.data / "topology.cbor"
        admission = Admission(home.config / "admission.toml")
        security = server_security(section.certificate, section.certificate_key) if section.certificate else None
        directory = make_directory(
            reactor,
            identity,
            config,
            previous=_read(kept),
            keep=lambda document: cls._keep(kept, document),
            admits=admission.admits,
            vouched=admission.vouches,
            fingerprint=admission.fingerprint,
        )
        place = section.history if "://" in section.history else home.data / (section.history or "history.sqlite")
        return cls(
            reactor,
            directory,
            check_host(section.host),
            section.port,
            home.config / "identity_public_key.pem",
            recorder=Recorder(reactor, time.time, lambda: open_history(place)),
            admission=admission,
            security=security,
            https_port=section.https_port,
            public_url=check_directory_url(section.public_url) if section.public_url else "",
            others=[parse_peer(text)[0] for text in section.peers],
            network_file=home.path / "network.toml",
        )

    @property
    def url(self) -> str:
        """Its URL, once it listens."""
        return self._url("http", self._listener.port)

    @property
    def secure_url(self) -> str:
        """Its HTTPS URL; empty if it has no certificate."""
        return "" if self._secure is None else self._url("https", self._secure.port)

    def _url(self, scheme: str, port: int) -> str:
        host = default_host() if is_unspecified(self._host) else self._host
        return f"{scheme}://{endpoint_text(host, port)}"

    def startService(self) -> None:
        """Listen, and log the URL and the identity key."""
        super().startService()
        key = key_text(self.directory.identity)
        self._log.info("The directory is at {url}", url=self.url)
        if self.secure_url:
            self._log.info("It is at {url}, too", url=self.secure_url)
        network = self.network()
        self._keep_network(network)
        self._log.info(
            "Its network has the digest {digest}: nymtw network add NAME {source}",
            digest=network.digest(),
            source=self._network_file or network.directories[0],
        )
        self._log.info("Its identity key is {key}, for --directory-key{file}", key=key, file=self._where_key())
        if self._admission is not None and self._admission.is_open and not is_loopback(self._host):
            self._log.critical(
                "THIS DIRECTORY IS OPEN: whoever reaches it may add nodes, and many nodes of one operator see who "
                "talks to whom. Name those that you trust in admission.toml, policy allow-list, before people use it"
            )
        trust = self.directory.publisher.trust
        if len(trust.directories) > 1:
            others = ", ".join(key_text(each) for each in trust.directories if each != self.directory.identity)
            self._log.info(
                "It signs together with {others}; {threshold} of {count} are needed",
                others=others,
                threshold=trust.threshold,
                count=len(trust.directories),
            )

    def network(self) -> Network:
        """What others need to know of the network, once it listens."""
        own = self._public_url or self.secure_url or self.url
        return Network((own, *self._others), self.directory.publisher.trust)

    def _serve_network(self, call: Call) -> Answer:
        return Answer(self.network().text().encode(), content_type="text/plain; charset=utf-8")

    def _keep_network(self, network: Network) -> None:
        if self._network_file is not None:
            try:
                write_file(self._network_file, network.text().encode())
            except OSError as error:
                self._log.warn(
                    "cannot write the network's file {path}: {error}", path=self._network_file, error=error.strerror
                )

    def _where_key(self) -> str:
        return "" if self._key_file is None else f"; also in {self._key_file}"

    @classmethod
    def _keep(cls, path: Path, document: bytes) -> None:
        try:
            write_file(path, document)
        except OSError as error:
            cls._log.warn("cannot keep the topology in {path}: {error}", path=str(path), error=error.strerror)


def make_directory(
    clock: Any,
    identity: SigningKey,
    config: DirectoryConfig,
    *,
    wall_clock: Callable[[], float] = time.time,
    previous: bytes | None = None,
    keep: Callable[[bytes], None] = lambda document: None,
    admits: Callable[[bytes], bool] = lambda identity: True,
    vouched: Callable[[bytes], bool] = lambda identity: False,
    fingerprint: Callable[[], bytes] = lambda: bytes(32),
    peer: Callable[[str], IPeer] | None = None,
) -> Directory:
    """The directory that `config` asks for, without a port. `clock.seconds` must not be stepped.

    `fingerprint()`: a digest (32 bytes) of the admission. `peer(url)`: another directory that signs with this
    one; without it, over HTTP. Raises `ConfigError`.
    """
    section, terms = config.directory, _terms(config)
    together = bool(section.peers or section.threshold)
    consensus = ConsensusSetup(clock, wall_clock, identity, section, terms, peer) if together else None
    attended = AttendedClock(clock)
    retention = Retention(section.seconds_until_expiry)
    registry = Registry(
        attended.seconds,
        wall_clock,
        retention=retention,
        capacity=section.capacity,
        per_prefix=section.per_prefix,
        vouched=vouched,
        secret=_secret(identity),
        trust_hosts=section.trust_hosts,
        is_own_address=is_own_address,
        admits=admits,
        assigned=layers_before(previous),
        agreed_layer=consensus.layer_of if consensus else None,
    )
    publisher: TopologyStore
    if consensus:
        publisher = consensus.topology_store(previous, keep)
        if publisher.newest is not None:
            registry.restore(publisher.newest)
    else:
        publisher = _publisher(registry, identity, clock.seconds, wall_clock, terms, previous, keep)
    retention.placed = lambda record: placed(record, publisher.newest)
    return Directory(
        registry,
        publisher,
        TrafficWindows(clock.seconds, wall_clock),
        wall_clock,
        UnsignedPresence(clock.seconds, wall_clock),
        admission=admits,
        unsigned=section.unsigned_localhost,
        identity=bytes(identity.verify_key),
        agreement=consensus.agreement(registry, fingerprint) if consensus else None,
        attended=attended,
    )


def _secret(identity: SigningKey) -> bytes:
    """What chance comes from, the same after a restart: nobody knows it who does not have the identity key."""
    return hashlib.blake2b(bytes(identity), digest_size=32, person=b"nymtw chance").digest()


def _publisher(
    registry: Registry,
    identity: SigningKey,
    seconds: Callable[[], float],
    wall_clock: Callable[[], float],
    terms: Terms,
    previous: bytes | None,
    keep: Callable[[bytes], None],
) -> Publisher:
    """The topologies of a directory that signs alone."""
    return Publisher(
        registry,
        [identity],
        seconds,
        wall_clock,
        refresh=terms.refresh,
        epoch_seconds=terms.epoch_seconds,
        validity=terms.validity,
        recommended=terms.recommended,
        minimum_client_version=terms.minimum_client_version,
        previous=previous,
        signed=keep,
    )


def _terms(config: DirectoryConfig) -> Terms:
    """The terms of all topologies of this directory."""
    section = config.directory
    return Terms(
        refresh=section.refresh,
        epoch_seconds=section.epoch_seconds,
        validity=section.seconds_valid,
        recommended=recommended(config.recommended),
        minimum_client_version=section.minimum_client_version,
    )


def placed(record: NodeRecord, topology: Topology | None) -> NodeRecord:
    """The record of a node whose role is assigned as it stands in `topology`."""
    found = topology.find(record.identity) if topology is not None and record.role == ANY else None
    return found or record


def layers_before(document: bytes | None) -> dict[bytes, int]:
    """The layer of each mixnode in the last document before a restart, which this directory wrote itself."""
    try:
        signed = from_cbor(document or b"", SignedTopology, MAX_TOPOLOGY_LENGTH)
        topology = from_cbor(signed.document, Topology, MAX_TOPOLOGY_LENGTH)
    except EncodingError:
        return {}
    return {node.identity: node.layer for node in topology.nodes if node.role == MIXNODE}


def load_directory_config(home: NodeHome, given: Mapping[str, Mapping[str, Any]]) -> DirectoryConfig:
    """Create and lock `home`, and read or write its `config.toml`; what cannot be used is not written.

    Raises `ConfigError`.
    """
    section = given["directory"]
    if section.get("host"):
        check_host(section["host"])
    if section.get("public_url"):
        check_directory_url(section["public_url"])
    for peer in section.get("peers", ()):
        parse_peer(peer)
    home.create()
    home.lock()
    return load_config(home.config_file, DirectoryConfig, given, HEADING)


def is_own_address(host: str) -> bool:
    """Whether this machine has the IP address `host`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, ValueError):
        return False
    return True


def _read(path: Path) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TOPOLOGY_LENGTH)
    except OSError:
        return None
