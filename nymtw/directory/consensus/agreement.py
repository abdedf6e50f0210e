"""Directories that sign one topology together: each version is voted on, counted, signed, and published."""

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any

from nacl.signing import SigningKey

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nymtw.directory.consensus.local_view import LocalView
from nymtw.directory.consensus.merge import Elected, elect, elect_base, elect_settings, merge
from nymtw.directory.consensus.peer_log import PeerLog
from nymtw.directory.consensus.peer_notifier import PeerNotifier
from nymtw.directory.consensus.peers import IPeer, Sources
from nymtw.directory.consensus.role_assignment import assign, former_places, places_in
from nymtw.directory.consensus.rounds import Ballot
from nymtw.directory.consensus.topology_store import Terms, TopologyStore
from nymtw.directory.consensus.version import Version
from nymtw.directory.consensus.votes import (
    DIGEST_LENGTH,
    MOST_ASKED,
    Endorsement,
    Notice,
    Roster,
    Statement,
    Vote,
    digest,
    read_notice,
)
from nymtw.directory.consensus.voting_schedule import VotingSchedule
from nymtw.directory.registry import Registry
from nymtw.encoding import from_cbor, to_cbor
from nymtw.errors import DirectoryError, NymtwError, TopologyError
from nymtw.topology.document import (
    MAX_TOPOLOGY_LENGTH,
    SignedTopology,
    Topology,
    check_consistent,
    verify_topology,
)

# Nodes have not yet announced themselves to a directory that has just started: it does not vote until all could have.
GRACE = 5.0  # seconds
LONGEST_ROUND = 3.0
_NOTHING = bytes(DIGEST_LENGTH)


def round_length(refresh: float, faulty: int) -> float:
    """Seconds of a round: the rounds of a vote, and two more, are over before the next slot can be claimed."""
    return min(LONGEST_ROUND, 0.7 * refresh / (faulty + 3))


class Agreement(Service):
    """Takes part in the versions, and puts into `topology_store` what enough directories have signed.

    `docs/directory.md` says how, and what a directory that lies can and cannot do.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        registry: Registry,
        topology_store: TopologyStore,
        signing_key: SigningKey,
        roster: Roster,
        terms: Terms,
        peers: Mapping[bytes, IPeer],
        *,
        admission: Callable[[], bytes] = lambda: _NOTHING,
        grace: float = GRACE,
    ) -> None:
        """`peers`: all directories of `roster` but this one. `admission()`: 32 bytes that stand for who is let in."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._topology_store = topology_store
        self._key = signing_key
        self._roster = roster
        self._terms = terms
        self._sources = Sources(peers)
        self._admission = admission
        self._grace = grace
        self._schedule = VotingSchedule(roster, signing_key, terms.refresh)
        self._length = round_length(terms.refresh, roster.faulty)
        self._notifiers = [PeerNotifier(clock, peer, self.notice, self._length / 2) for peer in peers.values()]
        self._version: Version | None = None
        self._settings = {**terms.settings(), "threshold": f"{roster.trust.threshold}"}
        self._calls: dict[str, Any] = {}
        self._votes_from = 0.0
        self.view = LocalView(registry)
        self._bases: dict[bytes, bytes] = {}  # digest -> signed topology: the newest two
        self._peer_log = PeerLog({key: peer.name for key, peer in peers.items()})

    # running

    def startService(self) -> None:
        """Begin to claim slots, and ask the others for what they have."""
        super().startService()
        self._votes_from = self._clock.seconds() + self._grace
        self._adopt()
        self._tick()

    def stopService(self) -> "Deferred[None]":
        """Leave."""
        super().stopService()
        for call in self._calls.values():
            if call.active():
                call.cancel()
        for notifier in self._notifiers:
            notifier.stop()
        return self._sources.stop()

    def receive(self, body: bytes) -> bool:
        """A notice of another directory, or of somebody who claims to be one: whether it is news.

        Raises `EncodingError`.
        """
        if not self.running:
            return False
        notice = read_notice(body, self._roster.trust.network)
        news: list[bool] = []
        try:
            self._take_notice(notice, news)
        finally:
            if any(news):  # also of what stood before something that is wrong
                self._tell()
        return any(news)

    @property
    def ballot(self) -> Ballot | None:
        """The vote on the version that is being made, or was made last; None before the first."""
        return self._version.ballot if self._version else None

    def notice(self) -> bytes:
        """What the others should know."""
        version = self._version
        notice = Notice(
            network=self._roster.trust.network,
            serial=version.serial if version else 0,
            claims=self._schedule.claims,
            votes=version.ballot.heard() if version else (),
            endorsements=version.endorsements if version else {},
        )
        return to_cbor(notice)

    def part(self, name: bytes) -> bytes:
        """The vote or signed topology with this digest. Raises `DirectoryError` if it is not here."""
        vote = self._version.ballot.body(name) if self._version else None
        found = vote or self._bases.get(name)
        if found is None:
            raise DirectoryError("there is no such vote, nor such a topology")
        return found

    def statements(self, names: list[bytes]) -> list[bytes]:
        """Those that are here, of the statements with these digests."""
        return self.view.statements(names)

    # a version

    def _take_notice(self, notice: Notice, news: list[bool]) -> None:
        for key, claim in sorted(notice.claims.items()):
            news.append(self._schedule.hear(key, claim))
        news.append(self._begin_if_due())
        version = self._version
        if version is None or version.serial != notice.serial:
            return
        for heard in notice.votes:
            for holder in version.ballot.hear(heard, self._clock.seconds()):
                self._fetch_vote(version, heard.voter, heard.digest, holder)
        for key, endorsement in sorted(notice.endorsements.items()):
            news.append(self._endorsed(version, key, endorsement))

    def _tick(self) -> None:
        if self._schedule.claim(self._wall_clock(), self._clock.seconds()):
            self._begin_if_due()
            self._tell()
        if self._schedule.is_late(self._clock.seconds()):
            self._peer_log.failing(
                "too few directories have come to the next slot: others are away, or their clocks are behind"
            )
        self._later("tick", min(1.0, self._terms.refresh / 20), self._tick)

    def _begin_if_due(self) -> bool:
        serial, now = self._schedule.due(), self._clock.seconds()
        if serial is None or serial <= self._newest():
            return False
        self._schedule.begin(serial, now)
        ballot = Ballot(self._roster, self._key, serial, now, self._length)
        self._version = version = Version(serial, ballot, self._roster)
        version.early = now < self._votes_from
        if not version.early:
            ballot.cast(self._own_vote(serial))
        self._later("count", ballot.rounds * self._length, lambda: self._count(version))
        self._later("close", (ballot.rounds + 2) * self._length, lambda: self._close(version))
        return True

    def _own_vote(self, serial: int) -> bytes:
        seen = self.view.look()
        base, base_serial = self._base()
        vote = Vote(
            network=self._roster.trust.network,
            serial=serial,
            voter=self._roster.own,
            settings=self._settings,
            admission=self._admission(),
            base_serial=base_serial,
            base=base,
            nodes=seen,
        )
        return to_cbor(vote)

    def _base(self) -> tuple[bytes, int]:
        try:
            signed, serial = self._topology_store.document(), self._topology_store.topology().serial
        except TopologyError:
            return _NOTHING, 0
        name = digest(from_cbor(signed, SignedTopology, MAX_TOPOLOGY_LENGTH).document)
        self._bases = dict([*list(self._bases.items())[-1:], (name, signed)])
        return name, serial

    def _newest(self) -> int:
        try:
            return self._topology_store.topology().serial
        except TopologyError:
            return 0

    def _fetch_vote(self, version: Version, voter: bytes, name: bytes, holder: bytes) -> None:
        def come(body: bytes) -> None:
            version.asked.discard((holder, name))
            if digest(body) == name and version.ballot.receive(voter, body, self._clock.seconds()):
                self._tell()

        if (holder, name) not in version.asked:
            version.asked.add((holder, name))
            asked = self._sources.ask(self._sources.peers[holder].part(name))
            asked.addCallbacks(come, lambda _: version.asked.discard((holder, name)))
            asked.addErrback(self._trouble)

    def _count(self, version: Version) -> None:
        """The votes are in: who is there, and what is to be fetched before it can be signed."""
        votes = version.ballot.outcome()
        self._peer_log.compare(votes, self._settings, self._admission())
        for liar in version.ballot.liars():
            self._peer_log.of(liar, "it has cast two votes: it lies, or runs twice with one key")
        threshold = self._roster.trust.threshold
        settings = elect_settings(list(votes.values()), threshold)
        if settings is None and version.early:
            return  # those who have just been started do not vote yet
        if settings is None:
            self._peer_log.failing(f"{len(votes)} directories voted and {threshold} with the same settings are needed")
        elif settings != self._settings:
            self._peer_log.failing("the others have other settings, and this directory does not sign theirs")
        else:
            done = self._sources.ask(Deferred.fromCoroutine(self._make(version, votes)))
            done.addErrback(self._trouble)

    async def _make(self, version: Version, votes: Mapping[bytes, Vote]) -> None:
        trust = self._roster.trust
        cast = list(votes.values())
        elected = elect(cast, trust.threshold)
        base = await self._find_base(elect_base(cast, self._roster.faulty), votes)
        statements = await self._find_statements(elected, votes)
        nodes, clients = merge(elected, statements, base)
        epoch = version.serial // (self._terms.epoch_seconds * 10**9)
        nodes = assign(
            nodes,
            places_in(base),
            epoch=epoch,
            published=version.serial,
            epoch_seconds=self._terms.epoch_seconds,
            refresh=self._terms.refresh,
        )
        topology = self._terms.topology(
            trust.network,
            version.serial,
            version.serial,
            epoch,
            nodes,
            clients,
            former_places(base, nodes, epoch),
            base,
        )
        check_consistent(topology)
        if version is not self._version or version.topology is not None:
            return
        self._endorsed(version, self._roster.own, version.sign(topology, self._key))
        self._tell()

    async def _find_base(self, name: bytes | None, votes: Mapping[bytes, Vote]) -> Topology | None:
        if name is None:
            return None
        if self._base()[0] == name:
            return self._topology_store.topology()
        holders = [voter for voter, vote in votes.items() if vote.base == name and voter != self._roster.own]
        if name not in self._bases:
            await self._sources.from_all(holders, lambda peer: peer.part(name), self._keep_base)
        if name not in self._bases:
            raise DirectoryError("the others begin with a topology that cannot be fetched from them")
        document = from_cbor(self._bases[name], SignedTopology, MAX_TOPOLOGY_LENGTH).document
        return from_cbor(document, Topology, MAX_TOPOLOGY_LENGTH)

    def _keep_base(self, body: bytes) -> None:
        # It may be out of date by now; what counts is that enough have signed it.
        verify_topology(body, self._roster.trust, 0.0)
        self._bases[digest(from_cbor(body, SignedTopology, MAX_TOPOLOGY_LENGTH).document)] = body

    async def _find_statements(self, elected: list[Elected], votes: Mapping[bytes, Vote]) -> Mapping[bytes, Statement]:
        wanted = {each.statement for each in elected}
        holders = [voter for voter in votes if voter != self._roster.own]
        while missing := self.view.missing(wanted):
            ask = methodcaller("statements", missing[:MOST_ASKED])
            await self._sources.from_all(holders, ask, self.view.taker(wanted))
            if len(self.view.missing(wanted)) == len(missing):
                raise DirectoryError(f"{len(missing)} nodes that the others have seen cannot be fetched from them")
        return {name: self.view.statement(name) for name in wanted}

    def _endorsed(self, version: Version, directory: bytes, endorsement: Endorsement) -> bool:
        is_new = version.endorse(directory, endorsement)
        if is_new:
            self._publish(version)
        return is_new

    def _publish(self, version: Version) -> None:
        """If enough have signed it."""
        if version.topology is None or version.done or version.serial <= self._newest():
            return
        signed = version.signed()
        if signed is not None:
            version.done = True
            self._topology_store.put(signed, version.topology)
            self._peer_log.well()

    def _close(self, version: Version) -> None:
        version.late = True
        self._publish(version)
        for key in version.dissenters():
            self._peer_log.of(key, "it has signed another topology")
        if not version.done:
            if version.topology is not None:
                self._peer_log.failing(
                    f"{len(version.endorsements)} directories have signed one, too few of them the same"
                )
            self._later("adopt", self._length, self._adopt)

    def _adopt(self) -> None:
        """Take what enough others have signed, where this directory has nothing as new."""

        def take(body: bytes) -> None:
            trust, newest = self._roster.trust, self._newest()
            topology = verify_topology(body, trust, self._wall_clock(), newer_than=newest)
            if topology.serial > newest:
                self._topology_store.put(body, topology)

        async def adopt() -> None:
            await self._sources.from_all(list(self._sources.peers), lambda peer: peer.topology(), take)

        self._sources.ask(Deferred.fromCoroutine(adopt())).addErrback(self._trouble)

    # small things

    def _trouble(self, failure: Any) -> None:
        if failure.check(NymtwError):
            self._peer_log.failing(str(failure.value))
        elif self.running:
            self.log.failure("a version could not be made", failure=failure)

    def _tell(self) -> None:
        for notifier in self._notifiers:
            notifier.tell()

    def _later(self, name: str, seconds: float, function: Callable[[], None]) -> None:
        before = self._calls.get(name)
        if before is not None and before.active():
            before.cancel()
        self._calls[name] = self._clock.callLater(seconds, function)
