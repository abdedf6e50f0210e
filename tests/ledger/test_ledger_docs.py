"""docs/ledger.md says what the code does."""

import re
from pathlib import Path

import cbor2

from nymtw.ledger.machine.kinds import KINDS
from nymtw.ledger.machine.kinds.transfer import Transfer
from nymtw.ledger.machine.merkle import Tree
from nymtw.ledger.machine.refusals import Refusal
from nymtw.ledger.machine.signatures import AccountKey, address_text, release_digest
from nymtw.ledger.machine.transactions import decode_transaction, encode_transaction
from nymtw.ledger.rpc.routes import ledger_routes
from nymtw.validator import metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ledger.md").read_text()
KEY = AccountKey(b"\x01" * 32)


def test_the_table_of_kinds() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ?(.*?) \|.*?\| [^|]*? \|$", PAGE, re.MULTILINE)
    found = {name: re.sub(r" \([^)]*\)", "", fields).split(", ") if fields else [] for name, fields in rows}
    assert found == {name: list(kind.schema.__struct_fields__) for name, kind in KINDS.items()}


def test_the_table_of_refusals() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z-]+) \|$", PAGE, re.MULTILINE)
    assert {int(code): name for code, name in rows} == {
        int(code): code.name.lower().replace("_", "-") for code in Refusal
    }


def test_the_examples() -> None:
    assert address_text(KEY.address) in PAGE
    data = encode_transaction(KEY, "nymtw-test", "transfer", 3, Transfer(b"\x22" * 20, 10**18))
    assert data.hex() in PAGE.replace("\n", "")
    assert f"`{decode_transaction(data, 'nymtw-test').id.hex()}`" in PAGE
    assert KEY.sign(release_digest(31337, b"\x33" * 20, 1, b"\x44" * 20, 10**18)).hex() in PAGE
    tree = Tree({}.get).update({b"account/" + KEY.address: cbor2.dumps([5, 0], canonical=True)})
    assert f"`{tree.root.hex()}`" in PAGE


def test_every_route_is_listed() -> None:
    listed = {(method, path) for method, path in re.findall(r"^\| `(GET|POST) (/[a-z]+)", PAGE, re.MULTILINE)}
    assert listed == {(route.method, route.path) for route in ledger_routes(lambda: None, "x")}


def test_every_figure_is_named() -> None:
    source = (Path(metrics.__file__)).read_text()
    named = re.findall(r'(?:gauge|counter)\("([a-z_]+)"', source)
    assert len(named) == 6
    assert all(f"`nymtw_{name}" in PAGE for name in named)
