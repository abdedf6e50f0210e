"""A signed transaction through a whole network in memory, and what comes back."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from twisted.internet.defer import Deferred
from twisted.python import usage
from twisted.web import http

from nymtw.client.proxies.broadcast import BroadcastFailed, BroadcastOptions, read_transaction, submit
from nymtw.errors import ConfigError, TopologyIncomplete
from nymtw.testing.simulation import SimulatedNetwork


class Call(http.Request):
    def process(self) -> None:
        call = json.loads(self.content.read())
        if call["params"] == ["0x0102"]:
            self.write(json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0xabcd"}).encode())
        else:
            error = {"code": -32000, "message": "insufficient funds"}
            self.write(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode())
        self.finish()


class Node(http.HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = super().buildProtocol(addr)
        channel.requestFactory = Call
        return channel

    def log(self, request: Any) -> None:
        pass


def test_the_hash_or_the_chains_own_error_comes_back(seed: int) -> None:
    both = {"provider-1": ["--impl=store", "--impl=broadcaster", "--chain=eth=http://127.0.0.1:8545"]}
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, refresh=5.0, implementations=both) as network:
        host = network.network.host("chain")
        node = host.listenTCP(8545, Node(reactor=host))
        alice = network.clients["alice"]

        def send(chain: str, transaction: bytes) -> Any:
            topology = alice.service.watch.current
            sent = submit(alice.core, network.network.host("alice"), random.Random(seed), topology, chain, transaction)
            return network.clock.wait_for(Deferred.fromCoroutine(sent), 200)

        assert send("eth", b"\x01\x02") == "0xabcd"
        with pytest.raises(BroadcastFailed, match=r"insufficient funds \(code -32000\)"):
            send("eth", b"\x03")
        with pytest.raises(BroadcastFailed, match="does not support the chain"):
            send("bitcoin", b"\x01")
        node.stopListening()


def test_a_network_without_a_broadcaster(seed: int) -> None:
    with SimulatedNetwork(seed, mixnodes_per_layer=1, providers=1, refresh=5.0) as network:
        alice = network.clients["alice"]
        topology = alice.service.watch.current
        sent = submit(alice.core, network.clock, random.Random(seed), topology, "eth", b"\x01")
        with pytest.raises(TopologyIncomplete, match="the network has no broadcaster"):
            network.clock.wait_for(Deferred.fromCoroutine(sent), 200)


def test_transactions_in_hexadecimal_and_in_files(tmp_path: Path) -> None:
    file = tmp_path / "tx"
    file.write_bytes(b"\x01\x02")
    assert [read_transaction(text) for text in ("0102", "0x0102", f"@{file}")] == [b"\x01\x02"] * 3
    for text in ("", "0x", "xyz", "012", "@/no/such/file", "00" * (2**20 + 1)):
        with pytest.raises(ConfigError):
            read_transaction(text)


def test_the_transaction_stands_before_or_behind_the_chain() -> None:
    for words in (["0102", "--chain", "eth"], ["--chain=eth", "0102"]):
        options = BroadcastOptions()
        options.parseOptions([*words])
        assert (options["chain"], options["transaction"]) == ("eth", "0102")
    with pytest.raises(usage.UsageError, match="--chain is needed"):
        BroadcastOptions().parseOptions(["0102"])
