"""Agreement of several directories on the same votes although some are silent or lie. Pure: times are arguments.

Every vote is broadcast as Dolev and Strong did ("Authenticated algorithms for Byzantine agreement", 1983): in round r a
vote counts only with r signatures, its voter's among them, and a directory that takes it before the last round adds its
own and passes it on. With one round more than there may be liars, the honest have the same votes in the end. All leave
out a voter with two votes.
"""

from collections.abc import Mapping
from typing import Final

from nacl.signing import SigningKey

from nymtw.directory.consensus.votes import (
    HeardVote,
    Roster,
    Vote,
    digest,
    read_vote,
    sign,
    signed_by,
    vote_bytes,
)
from nymtw.errors import EncodingError

_MOST_VOTES: Final = 2  # of one voter: two prove that it lies, and more prove nothing else


class Ballot:
    """The votes for the version with this serial. `began` and `now` are seconds of one clock that is never stepped."""

    def __init__(self, roster: Roster, signing_key: SigningKey, serial: int, began: float, length: float) -> None:
        """`length`: seconds of a round, twice what it takes to tell everybody something, or more."""
        self._roster = roster
        self._key = signing_key
        self.serial = serial
        self.began = began
        self._length = length
        self._signatures: dict[tuple[bytes, bytes], dict[bytes, bytes]] = {}  # (voter, digest) -> signer -> signature
        self._given: dict[tuple[bytes, bytes], set[bytes]] = {}  # (voter, signer) -> digests that it signed
        self._bodies: dict[bytes, bytes] = {}  # by digest; only of votes that are taken
        self._taken: dict[bytes, list[bytes]] = {}  # voter -> digests

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return self._roster.faulty + 1

    @property
    def ends(self) -> float:
        """When the last round is over."""
        return self.began + self.rounds * self._length

    def cast(self, vote: bytes) -> None:
        """Begin with this directory's own vote."""
        own = self._roster.own
        self._sign(own, digest(vote))
        self._take(own, digest(vote), vote)

    def hear(self, heard: HeardVote, now: float) -> list[bytes]:
        """Somebody says that there is a vote. Returns those who should have it, if it is wanted and not here.

        Raises `EncodingError` for an invalid signature.
        """
        voter = self._roster.signer(heard.voter)
        known = self._signatures.get((voter, heard.digest), {})
        fresh: dict[bytes, bytes] = {}
        # The voter may have signed many votes and shown each to one: whom others pass on must not be crowded out.
        others = [self._roster.signer(signer) for signer in heard.signatures if signer != voter]
        vouched = any(not self._has_signed_enough(voter, signer, heard.digest) for signer in others)
        for signer, signature in heard.signatures.items():
            enough = self._has_signed_enough(voter, signer, heard.digest)
            if signer in known or (enough and not (signer == voter and vouched)):
                continue
            if not signed_by(signer, signature, self._content(voter, heard.digest)):
                raise EncodingError("a signature of a vote is wrong")
            fresh[signer] = signature
        if not fresh or now > self.ends:
            return []
        self._signatures.setdefault((voter, heard.digest), {}).update(fresh)
        for signer in fresh:
            self._given.setdefault((voter, signer), set()).add(heard.digest)
        if not self._is_wanted(voter, heard.digest) or heard.digest in self._bodies:
            return []
        return [signer for signer in fresh if signer != self._roster.own]

    def receive(self, voter: bytes, body: bytes, now: float) -> bool:
        """A vote has come. Returns whether it was taken now: then all others need it."""
        name = digest(body)
        if not self._is_wanted(voter, name) or now > self.ends:
            return False
        signers = self._signatures.get((voter, name), {})
        # In which round we are, and so how many must have it.
        number = min(int((now - self.began) / self._length) + 1, self.rounds)
        if voter not in signers or len(signers) < number:
            return False
        if number < self.rounds:
            self._sign(voter, name)
        self._take(voter, name, body)
        return True

    def heard(self) -> tuple[HeardVote, ...]:
        """The votes that were taken, with all signatures that came so far: the content of notices."""
        return tuple(
            HeardVote(voter, name, dict(self._signatures[voter, name]))
            for voter, names in sorted(self._taken.items())
            for name in names
        )

    def body(self, name: bytes) -> bytes | None:
        """The vote with this digest, if it was taken."""
        return self._bodies.get(name)

    def outcome(self) -> Mapping[bytes, Vote]:
        """After the last round: the votes by their voters, without those of whom two came, or none that can be read."""
        found = {}
        network = self._roster.trust.network
        for voter, names in sorted(self._taken.items()):
            vote = read_vote(self._bodies[names[0]], network, self.serial, voter) if len(names) == 1 else None
            if vote is not None:
                found[voter] = vote
        return found

    def liars(self) -> list[bytes]:
        """The voters with two different votes."""
        return [voter for voter, names in sorted(self._taken.items()) if len(names) > 1]

    def _content(self, voter: bytes, name: bytes) -> bytes:
        return vote_bytes(self._roster.trust.network, self.serial, voter, name)

    def _is_wanted(self, voter: bytes, name: bytes) -> bool:
        taken = self._taken.get(voter, [])
        return name not in taken and len(taken) < _MOST_VOTES

    def _has_signed_enough(self, voter: bytes, signer: bytes, name: bytes) -> bool:
        """An honest directory signs two votes of a voter at most."""
        given = self._given.get((voter, signer), set())
        return name not in given and len(given) >= _MOST_VOTES

    def _sign(self, voter: bytes, name: bytes) -> None:
        own = self._roster.own
        self._signatures.setdefault((voter, name), {})[own] = sign(self._key, self._content(voter, name))
        self._given.setdefault((voter, own), set()).add(name)

    def _take(self, voter: bytes, name: bytes, body: bytes) -> None:
        self._taken.setdefault(voter, []).append(name)
        self._bodies[name] = body
