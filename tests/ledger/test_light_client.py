"""A client that trusts validators' signatures alone, against nodes that lie."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comet_world import CometWorld
from fake_comet import Block, signed_header, validators_json
from ledger_world import ALICE, BOB, CHAIN, SIGNERS, WATCHERS, deposit, some_genesis
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred, succeed

from nymtw.errors import ProofError
from nymtw.ledger import clients
from nymtw.ledger.answers import SignedHeader
from nymtw.ledger.cometbft import light_blocks as light
from nymtw.ledger.light import TRUST, LightLedger, Trust

OTHERS = [SigningKey(bytes([100 + number]) * 32) for number in range(4)]
ROOT = b"r" * 32
NOW = 1_767_300_000.0


def shown(block: Block, keys: Any = SIGNERS, signing: Any = None, **changes: Any) -> dict[str, Any]:
    return {"signed_header": signed_header(block, keys, signing, **changes), "validators": validators_json(keys)}


def checked(light_block: dict[str, Any], height: int = 5) -> light.LightBlock:
    block = light.parse_light_block(light_block)
    light.verify_light_block(block, CHAIN, height)
    return block


def test_a_block_that_enough_have_signed() -> None:
    assert checked(shown(Block(5, (), ROOT))).app_hash == ROOT
    assert checked(shown(Block(5, (), ROOT), signing=SIGNERS[:3])).app_hash == ROOT
    for few in (SIGNERS[:2], [], OTHERS):
        with pytest.raises(ProofError, match="no more than two thirds"):
            checked(shown(Block(5, (), ROOT), signing=few))


@pytest.mark.parametrize(
    "name",
    ["app_hash", "validators_hash", "next_validators_hash", "data_hash", "last_commit_hash", "proposer_address"],
)
def test_every_field_of_the_header_is_signed(name: str) -> None:
    changed = shown(Block(5, (), ROOT))
    header = changed["signed_header"]["header"]
    header[name] = "cd" * (len(header[name]) // 2)
    with pytest.raises(ProofError):
        checked(changed)


def test_lies_about_a_block() -> None:
    good = shown(Block(5, (), ROOT))
    with pytest.raises(ProofError):
        checked(good, 6)

    def lie(change: Any) -> None:
        changed = copy.deepcopy(good)
        change(changed["signed_header"], changed["validators"])
        with pytest.raises(ProofError):
            checked(changed)

    def forged(signed: Any, validators: Any) -> None:
        signed["commit"]["signatures"][0]["signature"] = signed["commit"]["signatures"][1]["signature"]

    lie(forged)
    lie(lambda signed, validators: signed["header"].update(chain_id="other"))
    lie(lambda signed, validators: signed["commit"].update(height="6"))
    lie(lambda signed, validators: signed["commit"].update(round=1))
    lie(lambda signed, validators: signed["commit"]["signatures"].pop())
    lie(lambda signed, validators: signed["commit"]["signatures"].append(signed["commit"]["signatures"][0]))
    lie(lambda signed, validators: validators.pop())
    lie(lambda signed, validators: validators[0].update(voting_power="1000"))
    lie(lambda signed, validators: signed["commit"]["block_id"]["parts"].update(total=2))
    lie(lambda signed, validators: signed["header"].update(time="2026-01-01T00:00:06.000000005Z"))


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"signed_header": None}, {"signed_header": {}, "validators": []}, {"signed_header": [], "validators": {}}],
)
def test_nonsense(nonsense: Any) -> None:
    with pytest.raises(ProofError):
        light.parse_light_block(nonsense)


def test_one_validator_counts_once_for_the_set_that_was_trusted() -> None:
    block = light.parse_light_block(shown(Block(5, (), ROOT), keys=[SIGNERS[0], *OTHERS]))
    trusted = [light.CometValidator(bytes(key.verify_key), 10) for key in SIGNERS]
    again = block._replace(signatures=block.signatures * 4)
    assert not light.overlap(trusted, block)
    assert not light.overlap(trusted, again)


class Chain:
    """A ledger whose headers are made for the test; the validators change at some height."""

    def __init__(self, sets: dict[int, list[SigningKey]]) -> None:
        self._sets = sets
        self.asked: list[int] = []

    def keys(self, height: int) -> list[SigningKey]:
        return self._sets[max(start for start in self._sets if start <= height)]

    def header(self, height: int) -> "Deferred[SignedHeader]":
        self.asked.append(height)
        keys = self.keys(height + 1)
        following = [light.CometValidator(bytes(key.verify_key), 10) for key in self.keys(height + 2)]
        block = shown(
            Block(height + 1, (), ROOT),
            keys,
            next_validators_hash=light.validators_hash(light.in_order(following)).hex(),
        )
        return succeed(SignedHeader(height=height, driver="cometbft", light_block=block))


def root(trust: Trust, chain: Any, height: int) -> bytes:
    results: list[Any] = []
    Deferred.fromCoroutine(trust.root(chain, height)).addBoth(results.append)
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    found: bytes = results[0]
    return found


def some_trust(now: float = NOW) -> Trust:
    return Trust(some_genesis(), lambda: now)


def test_far_ahead_in_one_step_while_the_validators_stay() -> None:
    chain = Chain({1: SIGNERS})
    assert root(some_trust(), chain, 5000) == ROOT
    assert chain.asked == [5000]


def test_validators_that_change_bit_by_bit_are_followed() -> None:
    sets = {1: SIGNERS, 40: [*SIGNERS[:2], *OTHERS[:2]], 80: OTHERS}
    chain = Chain(sets)
    trust = some_trust()
    assert root(trust, chain, 100) == ROOT
    assert 1 < len(chain.asked) < 20


def test_validators_from_nowhere_are_not_believed() -> None:
    with pytest.raises(ProofError, match="not known"):
        root(some_trust(), Chain({1: OTHERS}), 50)


def test_blocks_of_the_future_and_trust_that_is_too_old() -> None:
    with pytest.raises(ProofError, match="future"):
        root(some_trust(1_767_225_600.0), Chain({1: SIGNERS}), 50)
    now = [NOW]
    trust = Trust(some_genesis(), lambda: now[0])
    chain = Chain({1: SIGNERS})
    root(trust, chain, 5)
    now[0] += TRUST + 86400
    with pytest.raises(ProofError, match="too old"):
        root(trust, chain, 9)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CometWorld]:
    world = CometWorld(tmp_path)
    for number, key in enumerate((ALICE, BOB), 1):
        for watcher in WATCHERS[:2]:
            fields = deposit(key.address, 5, number)
            world.wait(clients.send(world.ledger, watcher, "notarise-deposit", fields))
    yield world
    world.stop()


class Liar:
    """A node that answers a question about the state otherwise."""

    def __init__(self, ledger: Any, change: Any) -> None:
        self._ledger, self._change = ledger, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def query(self, path: str, height: int | None = None, prove: bool = False) -> Any:
        return self._ledger.query(path, height, prove).addCallback(self._change)


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer._replace(value=b"\x82\x18\x64\x00"),
        lambda answer: answer._replace(value=None),
        lambda answer: answer._replace(proof=None),
        lambda answer: answer._replace(root=bytes(32)),
        lambda answer: answer._replace(key=answer.key[:-1] + b"\0"),
        lambda answer: answer._replace(height=answer.height - 1, root=bytes(32)),
    ],
)
def test_a_node_cannot_lie_about_the_state(world: CometWorld, change: Any) -> None:
    honest = LightLedger(world.ledger, world.trust)
    assert world.wait(clients.account(honest, ALICE.address)).balance == 5
    lying = LightLedger(Liar(world.ledger, change), world.trust)
    with pytest.raises(ProofError):
        world.wait(clients.account(lying, ALICE.address))
