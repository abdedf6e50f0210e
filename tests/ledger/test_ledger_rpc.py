"""A client of several nodes: the next one where one fails, and nothing believed that cannot be read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_world import EmbeddedWorld
from ledger_world import ALICE, CHAIN, WATCHERS, deposit
from route_client import RouteClient

from nymtw.errors import ConfigError, EncodingError, LedgerError, TransactionRefused
from nymtw.ledger import clients
from nymtw.ledger.machine.transactions import encode_transaction
from nymtw.ledger.rpc.client import HTTPLedger, check_ledger_url
from nymtw.ledger.rpc.routes import ledger_routes


class Several:
    """Two doors to one ledger."""

    def __init__(self, path: Path) -> None:
        self.world = EmbeddedWorld(path)
        self.doors = [RouteClient(ledger_routes(lambda: self.world.local, CHAIN)) for _ in range(2)]
        self.ledger = HTTPLedger(self.world.clock, [], self.doors)

    def wait(self, answer: Any) -> Any:
        return self.world.wait(answer)


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    several = Several(tmp_path / "ledger.sqlite")
    yield several
    several.world.stop()


def test_the_next_node_answers_where_one_is_down(several: Several) -> None:
    first, second = several.doors
    first.down = True
    assert (
        several.wait(clients.send(several.ledger, WATCHERS[0], "notarise-deposit", deposit(ALICE.address, 5))).code == 0
    )
    asked = len(first.asked)
    several.wait(several.ledger.status())
    assert len(first.asked) == asked  # it is asked last now
    first.down, second.down = False, True
    assert several.wait(several.ledger.status()).height == 1
    first.down = True
    with pytest.raises(LedgerError):
        several.wait(several.ledger.status())


def test_a_refusal_is_an_answer(several: Several) -> None:
    with pytest.raises(TransactionRefused):
        several.wait(several.ledger.submit(b"nonsense"))
    with pytest.raises(EncodingError):
        several.wait(several.ledger.query("nonsense"))
    assert several.doors[1].asked == []


@pytest.mark.parametrize(
    "lies",
    [
        None,
        [],
        {},
        {"chain": 1},
        {"id": "xyz", "height": "1"},
        {"nonce": -1, "value": 5, "key": "00", "height": 1, "root": "00", "proof": None, "blocks": [{}]},
        {"nonce": True, "value": None, "key": "", "height": 1, "root": "00" * 32, "proof": {"siblings": ["0"]}},
    ],
)
def test_nonsense_is_not_believed(several: Several, lies: Any) -> None:
    if lies is None:
        lies = ["null"]
    for door in several.doors:
        door.lies = lies
    ledger = several.ledger
    for answer in (
        ledger.status(),
        ledger.query("totals"),
        ledger.next_nonce(ALICE.address),
        ledger.result(bytes(32)),
        ledger.blocks(0),
        ledger.header(1),
        ledger.submit(encode_transaction(ALICE, CHAIN, "new-account", 0, _nothing())),
    ):
        with pytest.raises(LedgerError):
            several.wait(answer)


def test_a_node_that_talks_nonsense_is_passed_over(several: Several) -> None:
    several.doors[0].lies = {"chain": 1}
    assert several.wait(several.ledger.status()).chain == CHAIN


@pytest.mark.parametrize(
    "path",
    [
        "/query?path=totals&height=x",
        "/query?path=totals&height=-1",
        "/nonce?address=0x12",
        "/transaction?id=12",
        "/blocks?after=%C2%B2",
        "/blocks?after=1&count=99999999999999999999",
        "/header",
    ],
)
def test_bad_requests(several: Several, path: str) -> None:
    code, body = several.wait(several.doors[0].get(path, 1.0))
    assert code == 400
    assert body["error"]


def test_urls() -> None:
    assert check_ledger_url("http://127.0.0.1:26657/") == "http://127.0.0.1:26657"
    for url in ("", "ftp://a:1", "http://", "http://a:x", "http://a:1/path", "http://u@a:1", "http://a:99999"):
        with pytest.raises(ConfigError):
            check_ledger_url(url)
    with pytest.raises(ConfigError):
        HTTPLedger(None, [])


def _nothing() -> Any:
    from nymtw.ledger.machine.kinds.new_account import NewAccount

    return NewAccount()
