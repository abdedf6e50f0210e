"""A faucet gives on development chains alone, and not too often."""

import json
from typing import Any

import pytest
from ethereum_world import PIPE, FakeEthereum

pytest.importorskip("eth_account", reason="needs nymtw[ethereum]")

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nymtw.errors import EncodingError, EthereumError, EthereumRefused
from nymtw.ethereum.contracts import keccak
from nymtw.ethereum.node import hex_text, octets
from nymtw.ledger.machine.signatures import AccountKey, address_text
from nymtw.pipe.faucet.giving import FaucetRefuses, Giving
from nymtw.pipe.faucet.service import faucet_routes, smallest_units
from nymtw.testing.clock import FakeClock
from nymtw.web.http import Call

KEY = AccountKey(b"\5" * 32)


class Chain(FakeEthereum):
    """Takes transactions; `broke` refuses them."""

    broke = False

    def _answer(self, method: str, parameters: Any) -> Any:
        match method:
            case "eth_estimateGas":
                if self.broke:
                    raise EthereumRefused(-32000, "insufficient funds")
                return "0x5208"
            case "eth_maxPriorityFeePerGas" | "eth_getTransactionCount":
                return "0x1"
            case "eth_sendRawTransaction":
                return hex_text(keccak(octets(parameters[0])))
        return super()._answer(method, parameters)


class World:
    def __init__(self, chain: int = 1337, **options: Any) -> None:
        self.clock = FakeClock()
        self.ethereum = Chain(chain)
        values = {"tokens": 5, "ether": 7, "wait": 60.0, "per_minute": 3, **options}
        self.giving = Giving(self.clock, self.ethereum.node, KEY, PIPE, **values)
        self.routes = {route.path: route.handler for route in faucet_routes(self.giving, KEY.address)}

    def give(self, number: int) -> Any:
        found: list[Any] = []
        Deferred.fromCoroutine(self.giving.give(bytes([number]) * 20)).addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def post(self, path: str, body: bytes) -> Any:
        found: list[Any] = []
        answer: Any = self.routes[path](Call(body, {}, "127.0.0.1"))
        answer.addBoth(found.append)
        return found[0].code, json.loads(found[0].body)


def test_ether_and_tokens() -> None:
    world = World()
    assert len(world.give(1)) == 2
    assert world.giving.gifts == 1
    assert len(World(ether=0).give(1)) == 1


@pytest.mark.parametrize("chain", [1, 10, 11155111, 137, 0])
def test_no_chain_where_tokens_are_worth_something(chain: int) -> None:
    world = World(chain)
    with pytest.raises(FaucetRefuses, match="no development chain"):
        world.give(1)
    assert "eth_sendRawTransaction" not in world.ethereum.asked
    assert world.post("/status", b"")[0] == 403


def test_a_node_that_becomes_another_chain_is_noticed() -> None:
    world = World()
    world.give(1)
    world.ethereum.chain = 1
    with pytest.raises(FaucetRefuses):
        world.give(2)


def test_not_too_often_and_not_to_too_many() -> None:
    world = World()
    world.give(1)
    with pytest.raises(FaucetRefuses, match="again in 60 seconds"):
        world.give(1)
    world.give(2)
    world.give(3)
    with pytest.raises(FaucetRefuses, match="too many"):
        world.give(4)
    world.clock.advance(61)
    assert world.give(1)
    assert world.giving.refusals == 2


def test_who_got_nothing_may_ask_again() -> None:
    world = World()
    world.ethereum.broke = True
    with pytest.raises(EthereumError):
        world.give(1)
    world.ethereum.broke = False
    assert world.give(1)


def test_requests() -> None:
    world = World()
    code, shown = world.post("/give", json.dumps({"address": address_text(b"\1" * 20)}).encode())
    assert code == 200
    assert len(shown["transactions"]) == 2
    assert world.post("/give", json.dumps({"address": address_text(b"\1" * 20)}).encode())[0] == 403
    assert world.post("/status", b"")[1] == {"address": address_text(KEY.address), "chain": 1337, "gifts": 1}
    world.ethereum.down = True
    assert world.post("/give", json.dumps({"address": address_text(b"\2" * 20)}).encode())[0] == 503


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"address": 1}', b'{"address": "0x12"}', b"[" * 10_000])
def test_bad_requests(body: bytes) -> None:
    with pytest.raises(EncodingError):
        World().post("/give", body)


def test_units() -> None:
    assert smallest_units(0.1) == 10**17
    assert smallest_units(100) == 100 * 10**18
