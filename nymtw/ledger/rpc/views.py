"""Answers of a ledger as JSON, and back. Bytes are hexadecimal digits, amounts decimal texts."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import EncodingError, LedgerBroken, LedgerError, TransactionRefused
from nymtw.ledger.answers import LedgerStatus, SignedHeader
from nymtw.ledger.machine.merkle import Proof
from nymtw.ledger.machine.parameters import Parameters, parameters_view
from nymtw.ledger.machine.signatures import address_text, parse_address
from nymtw.ledger.machine.state import (
    PARAMETERS,
    Account,
    Bond,
    Deposit,
    Totals,
    Withdrawal,
    decode_record,
)
from nymtw.ledger.machine.transactions import decode_transaction, transaction_id
from nymtw.ledger.storage.records import BlockRecord, TransactionPlace
from nymtw.ledger.storage.replica import StateAnswer


def status_view(status: LedgerStatus) -> dict[str, Any]:
    """Of a node."""
    return {**msgspec.to_builtins(status, builtin_types=(bytes,)), "root": status.root.hex()}


def read_status(shown: Any) -> LedgerStatus:
    """What `status_view` was made of. Raises `LedgerError`."""
    with Reading():
        return msgspec.convert({**shown, "root": _bytes(shown["root"], 32)}, LedgerStatus, strict=True)


def answer_view(answer: StateAnswer) -> dict[str, Any]:
    """Of a query; `record` is the value for people."""
    proof = answer.proof
    return {
        "key": answer.key.hex(),
        "value": None if answer.value is None else answer.value.hex(),
        "height": answer.height,
        "root": answer.root.hex(),
        "proof": None
        if proof is None
        else {
            "siblings": [each.hex() for each in proof.siblings],
            "other": None if proof.other is None else [each.hex() for each in proof.other],
        },
        "record": record_view(answer.key, answer.value),
    }


def read_answer(shown: Any) -> StateAnswer:
    """What `answer_view` was made of. Raises `LedgerError`."""
    with Reading():
        proof = shown["proof"]
        return StateAnswer(
            _bytes(shown["key"]),
            None if shown["value"] is None else _bytes(shown["value"]),
            _number(shown["height"]),
            _bytes(shown["root"], 32),
            None
            if proof is None
            else Proof(
                tuple(_bytes(each, 32) for each in proof["siblings"]),
                None if proof["other"] is None else _pair(proof["other"]),
            ),
        )


def record_view(key: bytes, value: bytes | None) -> Any:
    """A record of the state for people."""
    record = decode_record(key, value)
    if key == PARAMETERS and record is not None:
        return parameters_view(msgspec.convert(record, Parameters, builtin_types=(bytes,)))
    match record:
        case Account(balance, nonce):
            return {"balance": str(balance), "nonce": nonce}
        case Bond(identity, amount, leaving):
            return {"identity": key_text(identity), "amount": str(amount), "leaving": str(leaving)}
        case Deposit(account, amount, height):
            return {"account": address_text(account), "amount": str(amount), "height": height}
        case Totals():
            return {**{name: str(amount) for name, amount in record._asdict().items()}, "conserved": record.conserved}
        case Withdrawal():
            return {
                "account": address_text(record.account),
                "recipient": address_text(record.recipient),
                "amount": str(record.amount),
                "height": record.height,
                "approvals": [
                    {"redeemer": address_text(address), "signature": signature.hex()}
                    for address, signature in record.approvals
                ],
                "released": record.released,
            }
        case bytes() if len(record) == 20:
            return address_text(record)
        case int() | None:
            return record
        case [*entries]:
            return [{"account": address_text(owner), "amount": str(amount)} for owner, amount in entries]
    return None


def read_nonce(shown: Any) -> int:
    """The nonce in an answer. Raises `LedgerError`."""
    with Reading():
        return _number(shown["nonce"])


def place_view(identity: bytes, place: TransactionPlace | None) -> dict[str, Any]:
    """Of a transaction; without a height it is in no block."""
    shown = {"id": identity.hex(), "height": None}
    return shown if place is None else {**shown, **msgspec.structs.asdict(place)}


def read_place(shown: Any) -> TransactionPlace | None:
    """What `place_view` was made of. Raises `LedgerError`."""
    with Reading():
        if shown["height"] is None:
            return None
        fields = {name: shown[name] for name in TransactionPlace.__struct_fields__}
        return msgspec.convert(list(fields.values()), TransactionPlace, strict=True)


def bonds_view(bonds: Sequence[tuple[bytes, Bond]]) -> dict[str, Any]:
    """Of who is bonded."""
    return {
        "bonds": [
            {
                "address": address_text(address),
                "identity": key_text(bond.identity),
                "amount": str(bond.amount),
                "leaving": str(bond.leaving),
            }
            for address, bond in bonds
        ]
    }


def read_bonds(shown: Any) -> list[tuple[bytes, Bond]]:
    """What `bonds_view` was made of. Raises `LedgerError`."""
    with Reading():
        return [
            (
                parse_address(each["address"]),
                Bond(parse_key_text(each["identity"]), _amount(each["amount"]), _amount(each["leaving"])),
            )
            for each in shown["bonds"]
        ]


def block_view(block: BlockRecord, chain: str) -> dict[str, Any]:
    """Of a block; each transaction also for people."""
    return {
        "height": block.height,
        "id": block.id.hex(),
        "time": block.time,
        "root": block.root.hex(),
        "header": block.header.hex(),
        "signature": block.signature.hex(),
        "transactions": [
            {"data": data.hex(), "code": code, "text": text, **transaction_view(data, chain)}
            for data, (code, text) in zip(block.transactions, block.outcomes, strict=True)
        ],
    }


@lru_cache(20_000)
def transaction_view(data: bytes, chain: str) -> Mapping[str, Any]:
    """Id, and, where it is one of this chain, kind, sender and nonce; remembered, for its signature costs 0.1 ms."""
    shown: dict[str, Any] = {"id": transaction_id(data).hex()}
    try:
        found = decode_transaction(data, chain)
    except TransactionRefused:
        return shown
    return {**shown, "kind": found.kind, "sender": address_text(found.sender), "nonce": found.nonce}


def read_block(shown: Any) -> BlockRecord:
    """What `block_view` was made of. Raises `LedgerError`."""
    with Reading():
        listed = shown["transactions"]
        return BlockRecord(
            _number(shown["height"]),
            _bytes(shown["id"], 32),
            _number(shown["time"]),
            _bytes(shown["root"], 32),
            tuple(_bytes(each["data"]) for each in listed),
            tuple((_number(each["code"]), str(each["text"])) for each in listed),
            _bytes(shown["header"]),
            _bytes(shown["signature"]),
        )


def header_view(header: SignedHeader) -> dict[str, Any]:
    """Of what validators have signed."""
    return {
        "height": header.height,
        "driver": header.driver,
        "header": header.header.hex(),
        "signature": header.signature.hex(),
        "light_block": header.light_block,
    }


def read_header(shown: Any) -> SignedHeader:
    """What `header_view` was made of. Raises `LedgerError`."""
    with Reading():
        plain = {**shown, "header": _bytes(shown["header"]), "signature": _bytes(shown["signature"])}
        return msgspec.convert(plain, SignedHeader, strict=True, builtin_types=(bytes,))


class Reading:
    """Makes whatever goes wrong while an answer is read a `LedgerError`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        expected = (
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            msgspec.ValidationError,
            EncodingError,
            LedgerBroken,
        )
        if isinstance(error, expected):
            raise LedgerError(f"an answer of the ledger cannot be read: {error!r:.200}") from None


def _bytes(text: Any, length: int | None = None) -> bytes:
    data = bytes.fromhex(text)
    if length not in (None, len(data)):
        raise ValueError(f"{len(data)} bytes where {length} are expected")
    return data


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a number")
    return value


def _amount(text: Any) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= 39):
        raise ValueError("not an amount")
    return int(text)


def _pair(listed: Any) -> tuple[bytes, bytes]:
    one, other = listed
    return _bytes(one, 32), _bytes(other, 32)
