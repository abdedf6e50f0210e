"""A faucet that runs: POST /give with {"address": "0x..."}, GET /status."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.core import Metric

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nymtw.errors import EncodingError, EthereumError
from nymtw.ethereum.jsonrpc import EthereumRPC
from nymtw.ethereum.node import EthereumNode, hex_text
from nymtw.ledger.machine.parameters import Genesis
from nymtw.ledger.machine.signatures import AccountKey, address_text, parse_address
from nymtw.node.announce.placement import check_host
from nymtw.node.home import NodeHome
from nymtw.node.metrics import Metrics, counter
from nymtw.node.metrics_server import MetricsServer
from nymtw.node.service import AtStop, Listener, NodeService
from nymtw.pipe.config import FaucetSection
from nymtw.pipe.faucet.giving import FaucetRefuses, Giving
from nymtw.topology.presence import endpoint_text
from nymtw.web.http import Answer, Call, Route, RoutesResource, as_json, bounded_site

_UNIT = 10**18


class FaucetService(NodeService):
    """Its port and its figures."""

    _log = Logger()

    def __init__(self, reactor: Any, home: NodeHome, section: FaucetSection, genesis: Genesis, key: AccountKey) -> None:
        """Raises `ConfigError` for a bad URL or address."""
        super().__init__()
        check_host(section.host)
        node = EthereumNode(EthereumRPC(reactor, section.ethereum))
        self._key = key
        self.giving = Giving(
            reactor,
            node,
            key,
            genesis.parameters.pipe,
            tokens=smallest_units(section.tokens),
            ether=smallest_units(section.ether),
            wait=section.wait_seconds,
            per_minute=section.per_minute,
        )
        self.metrics = Metrics()
        self.metrics.add(self._figures)
        if section.metrics_port >= 0:
            self.add(MetricsServer(reactor, section.metrics_port, self.metrics))
        self.add(AtStop(node.close))
        resource = RoutesResource(faucet_routes(self.giving, key.address), lambda method, path, code: None)
        self.listener = self.add(Listener(reactor, section.host, section.port, bounded_site(resource, reactor)))

    def startService(self) -> None:
        """Start, and say where it is."""
        super().startService()
        where = endpoint_text(self.listener.host, self.listener.port)
        self._log.info(
            "The faucet is at http://{where}, its address is {address}",
            where=where,
            address=address_text(self._key.address),
        )

    def _figures(self) -> Iterable[Metric]:
        giving = self.giving
        yield counter("faucet_gifts", "Addresses that were given something.", giving.gifts)
        yield counter("faucet_refusals", "Requests that were refused.", giving.refusals)
        yield counter("faucet_failures", "Gifts that the Ethereum node did not take.", giving.failures)


def smallest_units(tokens: float) -> int:
    """Of 18 decimals; exact to the ninth of them, which is what a number of a configuration file carries."""
    return round(tokens * 10**9) * (_UNIT // 10**9)


def faucet_routes(giving: Giving, address: bytes) -> Sequence[Route]:
    """The routes over one faucet, whose own address is `address`."""

    def give(call: Call) -> "Deferred[Answer]":
        given = Deferred.fromCoroutine(giving.give(_address(call.body)))
        return given.addCallbacks(
            lambda hashes: as_json({"transactions": [hex_text(each) for each in hashes]}), _refusal
        )

    def status(call: Call) -> "Deferred[Answer]":
        checked = Deferred.fromCoroutine(giving.check())
        return checked.addCallbacks(
            lambda chain: as_json({"address": address_text(address), "chain": chain, "gifts": giving.gifts}), _refusal
        )

    return [Route("POST", "/give", give), Route("GET", "/status", status)]


def _address(body: bytes) -> bytes:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict) or not isinstance(asked.get("address"), str):
        raise EncodingError('what is asked for is {"address": "0x..."}')
    return parse_address(asked["address"])


def _refusal(failure: Failure) -> Answer:
    if failure.check(FaucetRefuses):
        return as_json({"error": str(failure.value)}, 403)
    if failure.check(EthereumError):
        return as_json({"error": str(failure.value)}, 503)
    failure.raiseException()
    raise AssertionError
