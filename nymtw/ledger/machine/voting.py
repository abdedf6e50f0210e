"""Votes of a few who are known: each counts once, for the one content that its voter named last."""

from collections.abc import Mapping
from hashlib import sha256

import cbor2

from nymtw.errors import TransactionRefused
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.state import Ballot, State, ballot_key


def topic(*parts: bytes | str | int) -> bytes:
    """What is voted on: 32 bytes."""
    return sha256(cbor2.dumps(list(parts), canonical=True)).digest()


def check_vote(state: State, on: bytes, voter: bytes, content: bytes) -> None:
    """Raises `TransactionRefused` (ALREADY_DONE) where `voter` has voted for this very content."""
    ballot: Ballot | None = state.get(ballot_key(on))
    if ballot is not None and [voter, sha256(content).digest()] in ballot.votes:
        raise TransactionRefused(Refusal.ALREADY_DONE, "this vote has been counted")


def count_vote(state: State, on: bytes, voter: bytes, content: bytes, weights: Mapping[bytes, int]) -> int:
    """Put down the vote in place of what `voter` said before; returns the weight of all who say the same.

    `weights`: of everybody who may vote now; the vote of somebody who no longer may weighs nothing.
    """
    digest = sha256(content).digest()
    before: Ballot | None = state.get(ballot_key(on))
    votes = [vote for vote in (before.votes if before else []) if vote[0] != voter and vote[0] in weights]
    votes.append([voter, digest])
    state.put(ballot_key(on), Ballot(sorted(votes)))
    return sum(weights[who] for who, said in votes if said == digest)


def close_ballot(state: State, on: bytes) -> None:
    """It is decided."""
    state.put(ballot_key(on), None)
