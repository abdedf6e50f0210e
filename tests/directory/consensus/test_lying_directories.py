"""A minority of directories that lie, each in another way and at random: the honest ones agree, and go on."""

import random
from collections.abc import Iterator

import msgspec
import pytest
from voting_directories import (
    REFRESH,
    STEP,
    Council,
    Liar,
    agreed,
    directory_key,
    identities,
    node_identity,
    unbroken,
)

from nymtw.directory.consensus.agreement import round_length
from nymtw.directory.consensus.votes import (
    Claim,
    Endorsement,
    HeardVote,
    Notice,
    digest,
    endorsement_bytes,
    sign,
    slot_bytes,
)
from nymtw.encoding import from_cbor
from nymtw.errors import EncodingError, TopologySignatureError
from nymtw.topology.document import MAX_TOPOLOGY_LENGTH, SignedTopology, sign_topology, verify_topology

pytestmark = pytest.mark.long

NODES = range(1, 8)
SYBILS = range(100, 104)
# Seen by one honest directory less than is needed: what a liar says of these decides.
SWINGS = range(50, 54)


@pytest.fixture(name="council")
def make_council(request: pytest.FixtureRequest) -> Iterator[Council]:
    council = Council(getattr(request, "param", 3))
    for number in NODES:
        council.add_node(number)
    yield council
    council.stop()


def begin(council: Council, *liars: int) -> tuple[list[int], list[Liar]]:
    """Start all, let two versions pass, and return the honest and the liars."""
    honest = [number for number in council.numbers if number not in liars]
    council.start(*honest)
    if liars:
        council.start(*liars, kind=Liar)
    # To tell somebody something, and for him to fetch a vote, takes half a round, and a liar no time.
    council.latency = round_length(REFRESH, len(liars)) / 6
    council.quick = set(liars)
    for number in SWINGS if liars else ():
        council.add_node(number)
        first = number % len(honest)
        council.heard_by[number] = {*[*honest, *honest][first : first + council.trust.threshold - 1]}
    council.run(2.1)
    found = [council.members[number] for number in liars]
    return honest, [each for each in found if isinstance(each, Liar)]


def assert_sound(council: Council, honest: list[int], nodes: set[int] = frozenset(NODES)) -> None:  # type: ignore[assignment]
    """No version failed, the honest have the same, and the nodes in the newest are these."""
    unbroken(council, *honest)
    either = {node_identity(node) for node in SWINGS}
    for topology in council.topologies(*honest):
        assert identities(topology) - either == {node_identity(node) for node in nodes}
        assert council.clock.wall_clock() - topology.published / 1e9 < 1.75 * REFRESH


def with_votes(notice: Notice, liar: Liar, *votes: HeardVote) -> Notice:
    """The liar's own votes in the place of the one that it has cast; and it signs no topology."""
    others = [vote for vote in notice.votes if vote.voter != liar.identity]
    signed = {key: each for key, each in notice.endorsements.items() if key != liar.identity}
    return msgspec.structs.replace(notice, votes=(*votes, *others), endorsements=signed)


def test_one_that_says_nothing(council: Council) -> None:
    honest, [liar] = begin(council, 3)
    liar.lie = lambda target, notice: None
    council.run(4)
    assert_sound(council, honest)


def test_one_that_speaks_to_one_alone(council: Council) -> None:
    honest, [liar] = begin(council, 3)
    for number in SWINGS:
        council.heard_by[number] |= {3}
    liar.lie = lambda target, notice: notice if target == 1 else None
    council.run(4)
    assert_sound(council, honest)


def test_one_that_withholds_nodes(council: Council) -> None:
    honest, [liar] = begin(council, 3)
    liar.lie = lambda target, notice: with_votes(
        notice, liar, liar.cast(notice.serial, liar.vote(notice.serial, [liar.seen(1)]))
    )
    council.run(4)
    assert_sound(council, honest)


def test_one_that_has_seen_nodes_that_nobody_else_has(council: Council) -> None:
    honest, _ = begin(council, 3)
    for number in SYBILS:
        council.add_node(number)
        council.heard_by[number] = {3}
    council.run(4)
    assert_sound(council, honest)


def test_one_that_repeats_old_heartbeats(council: Council) -> None:
    honest, [liar] = begin(council, 3)
    old = [liar.seen(number) for number in NODES]
    for number in NODES:
        council.nodes[number] = {**council.nodes[number], "keys": {2: bytes([number]) * 32}}
    council.run(1.2)
    liar.lie = lambda target, notice: with_votes(notice, liar, liar.cast(notice.serial, liar.vote(notice.serial, old)))
    council.run(3)
    assert_sound(council, honest)
    assert {tuple(node.sphinx_keys) for node in council.topology(1).nodes} == {(2,)}


@pytest.mark.parametrize("council", [3, 5], indirect=True)
def test_one_that_votes_differently_to_everybody(council: Council) -> None:
    honest, [liar] = begin(council, 3)

    def lie(target: int, notice: Notice) -> Notice:
        nodes = [liar.seen(number) for number in [*NODES, *(SWINGS if target == 1 else ())]]
        return with_votes(notice, liar, liar.cast(notice.serial, liar.vote(notice.serial, nodes)))

    liar.lie = lie
    council.run(4)
    assert_sound(council, honest)


def test_one_that_signs_many_votes_and_gives_out_one(council: Council) -> None:
    """What others pass on of it is not crowded out."""
    honest, [liar] = begin(council, 3)

    def lie(target: int, notice: Notice) -> Notice:
        good = liar.vote(notice.serial, [liar.seen(number) for number in [*NODES, *SWINGS]])
        if target == 1:
            return with_votes(notice, liar, liar.cast(notice.serial, good))
        withheld = [digest(bytes([number, notice.serial % 251])) for number in range(5)]
        return with_votes(notice, liar, *(liar.cast(notice.serial, name) for name in withheld))

    liar.lie = lie
    council.run(4)
    assert_sound(council, honest)


@pytest.mark.parametrize("council", [3, 5, 7], indirect=True)
@pytest.mark.parametrize("moment", [0.97, 1.97, 2.97, 3.97])
def test_some_that_show_one_a_vote_at_the_last_moment(council: Council, moment: float) -> None:
    """Signed by all of them, in whatever round: who takes it has the time to tell the others, or nobody takes it."""
    count = len(council.numbers)
    honest, liars = begin(council, *range(council.trust.threshold + 1, count + 1))
    victim = council.members[honest[0]]
    length = round_length(REFRESH, len(liars))
    for liar in liars:
        # The rest of the time it is there and has not voted.
        liar.lie = lambda target, notice: msgspec.structs.replace(notice, votes=(), endorsements={})
    shown: list[int] = []

    def show() -> None:
        ballot = victim.agreement.ballot
        if ballot is None or ballot.serial in shown or council.clock.seconds() < ballot.began:
            return
        shown.append(ballot.serial)
        first = liars[0]
        name = first.vote(ballot.serial, [first.seen(number) for number in [*NODES, *SWINGS]])
        notice = Notice(
            network=council.trust.network,
            serial=ballot.serial,
            claims={},
            votes=(first.cast(ballot.serial, name, *liars),),
            endorsements={},
        )
        for liar in liars:
            liar.bodies.update(first.bodies)
        wait = ballot.began + moment * length - council.clock.seconds()
        council.clock.callLater(max(wait - 0.05, 0), victim.agreement.receive, liars[0].encode(notice))

    for _ in range(int(4 * REFRESH / 0.25)):
        council.clock.advance(0.25)
        show()
    assert len(shown) >= 3
    assert_sound(council, honest)


def test_one_that_signs_another_topology_and_every_topology(council: Council) -> None:
    honest, [liar] = begin(council, 3)
    other: list[bytes] = []

    def lie(target: int, notice: Notice) -> Notice:
        if liar.identity not in notice.endorsements or target == 1:
            return notice
        forged = msgspec.structs.replace(council.topology(1), serial=notice.serial, nodes=())
        signed = from_cbor(sign_topology(forged, [liar.key]), SignedTopology, MAX_TOPOLOGY_LENGTH)
        other.append(sign_topology(forged, [liar.key]))
        name, signature = digest(signed.document), signed.signatures[liar.identity]
        proof = sign(liar.key, endorsement_bytes(council.trust.network, notice.serial, name, signature))
        changed = {**notice.endorsements, liar.identity: Endorsement(name, signature, proof)}
        return msgspec.structs.replace(notice, endorsements=changed)

    liar.lie = lie
    council.run(4)
    assert_sound(council, honest)
    assert other
    with pytest.raises(TopologySignatureError, match="1 valid signatures of the 2 needed"):
        verify_topology(other[-1], council.trust, council.clock.wall_clock())


@pytest.mark.parametrize("claimed", [0, 1, 2**62])
def test_one_that_claims_another_time(council: Council, claimed: int) -> None:
    honest, [liar] = begin(council, 3)
    signature = sign(liar.key, slot_bytes(council.trust.network, claimed))

    def lie(target: int, notice: Notice) -> Notice:
        return msgspec.structs.replace(notice, claims={**notice.claims, liar.identity: Claim(claimed, signature)})

    liar.lie = lie
    council.run(5)
    assert_sound(council, honest)


def test_one_that_hurries_everybody_with_the_fastest_clock(council: Council) -> None:
    """A liar and an honest clock that is a minute ahead: the versions come early, and none is cut short."""
    honest, [liar] = begin(council, 3)
    council.skews[2] = 60.0
    signature = sign(liar.key, slot_bytes(council.trust.network, 2**62))
    liar.lie = lambda target, notice: msgspec.structs.replace(
        notice, claims={**notice.claims, liar.identity: Claim(2**62, signature)}
    )
    council.run(8)
    assert_sound(council, honest)


def test_one_that_is_slower_than_a_round(council: Council) -> None:
    honest, [_] = begin(council, 3)
    council.slow[3] = 2.5 * round_length(REFRESH, 1)
    council.run(6)
    assert_sound(council, honest)


def test_one_that_passes_votes_and_claims_on_with_wrong_signatures(council: Council) -> None:
    honest, [liar] = begin(council, 3)

    def lie(target: int, notice: Notice) -> Notice:
        votes = tuple(
            msgspec.structs.replace(vote, signatures=dict.fromkeys(vote.signatures, bytes(64))) for vote in notice.votes
        )
        return msgspec.structs.replace(notice, votes=votes)

    liar.lie = lie
    council.run(4)
    assert_sound(council, honest)
    assert any("a signature of a vote is wrong" in text for _, _, text in council.refused)


def test_notices_of_outsiders_have_no_effect(council: Council) -> None:
    honest, _ = begin(council)
    member = council.members[1]
    serial = council.serials(1)[0] + 10 * STEP
    stranger = directory_key(99)
    key = bytes(stranger.verify_key)
    claim = Claim(serial, sign(stranger, slot_bytes(council.trust.network, serial)))
    good = {"network": council.trust.network, "serial": serial, "claims": {}, "votes": (), "endorsements": {}}
    bad = [
        {**good, "claims": {key: claim}},
        {**good, "claims": {council.trust.directories[1]: claim}},
        {**good, "network": bytes(16)},
        {**good, "format": 2},
    ]
    for each in bad:
        with pytest.raises(EncodingError):
            member.agreement.receive(Liar.encode(Notice(**each)))
    for body in (b"", b"\xff" * 100, bytes(70_000), b"\xa0", b"\x9f" * 60_000):
        with pytest.raises(EncodingError):
            member.agreement.receive(body)
    council.run(2)
    assert_sound(council, honest)


@pytest.mark.parametrize("game", range(3))
@pytest.mark.parametrize("council", [3, 5, 7], indirect=True)
def test_liars_that_do_what_they_can_together_at_random(council: Council, game: int) -> None:
    """They show votes, signed by whom of them they like and by the honest whose signatures they have."""
    chance = random.Random(f"{game} of {len(council.numbers)}")
    honest, liars = begin(council, *range(council.trust.threshold + 1, len(council.numbers) + 1))
    for number in SYBILS:
        council.nodes[number] = {"role": "mixnode", "host": "10.0.0.1", "port": 5000 + number, "keys": {1: bytes(32)}}
        council.heard_by[number] = {liar.number for liar in liars}
    council.run(0.2)
    length = round_length(REFRESH, len(liars))
    for each in liars:
        each.lie = lambda target, notice, liar=each: with_votes(notice, liar) if chance.random() < 0.7 else None
        each.gives = lambda source: chance.random() < 0.6

    def somebody_shows_something(serial: int) -> None:
        voter = chance.choice(liars)
        names = [name for name, (whose, when) in cast.items() if (whose, when) == (voter, serial)]
        if not names:
            return
        name = chance.choice(names)
        vote = voter.cast(serial, name, *chance.sample(liars, chance.randint(0, len(liars))))
        for liar in liars:  # signatures of the honest that have come to any of them
            for notice in liar.heard:
                for heard in notice.votes:
                    if heard.digest == name and chance.random() < 0.5:
                        vote = msgspec.structs.replace(vote, signatures={**heard.signatures, **vote.signatures})
        notice = Notice(network=council.trust.network, serial=serial, claims={}, votes=(vote,), endorsements={})
        council.members[chance.choice(honest)].agreement.receive(Liar.encode(notice))

    plans: set[int] = set()
    cast: dict[bytes, tuple[Liar, int]] = {}

    def plan() -> None:
        for number in honest:
            ballot = council.members[number].agreement.ballot
            if ballot is None or ballot.serial in plans:
                continue
            plans.add(ballot.serial)
            for liar in liars:
                for _ in range(3):
                    nodes = [liar.seen(each) for each in [*NODES, *SWINGS, *SYBILS] if chance.random() < 0.5]
                    name = liar.vote(ballot.serial, nodes)
                    for each in liars:
                        each.bodies[name] = liar.bodies[name]
                    cast[name] = liar, ballot.serial
            for _ in range(12 * len(liars)):
                # Often just before a round ends.
                near = chance.randint(1, len(liars) + 1) - chance.uniform(0, 0.1)
                moment = near if chance.random() < 0.5 else chance.uniform(0, len(liars) + 2)
                council.clock.callLater(moment * length, somebody_shows_something, ballot.serial)

    for _ in range(int(5 * REFRESH / 0.2)):
        council.clock.advance(0.2)
        plan()
    assert len(plans) >= 4
    unbroken(council, *honest)
    for topology in agreed(council, *honest).values():
        assert not identities(topology) & {node_identity(number) for number in SYBILS}
    assert_sound(council, honest)
