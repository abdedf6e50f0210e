"""A ledger in memory, block by block, with the keys of everybody who has a part in it; audited after each block."""

from typing import Any

from nacl.signing import SigningKey

from nymtw.ledger.machine.kinds.bond import Bond, bond_statement
from nymtw.ledger.machine.kinds.new_account import NewAccount
from nymtw.ledger.machine.kinds.notarise_deposit import NotariseDeposit
from nymtw.ledger.machine.kinds.release import Release
from nymtw.ledger.machine.kinds.transfer import Transfer
from nymtw.ledger.machine.machine import Machine, Outcome, genesis_changes
from nymtw.ledger.machine.merkle import EMPTY, Tree
from nymtw.ledger.machine.parameters import Genesis, Parameters, Validator
from nymtw.ledger.machine.signatures import AccountKey, release_digest
from nymtw.ledger.machine.state import Account, account_key, audit, decode_record
from nymtw.ledger.machine.transactions import encode_transaction

CHAIN = "nymtw-test"
ETHEREUM = 1337
PIPE = b"p" * 20


def account_key_of(name: str) -> AccountKey:
    return AccountKey(name.encode().rjust(32, b"\x01"))


VALIDATORS = [account_key_of(f"validator{number}") for number in range(4)]
WATCHERS = [account_key_of(f"watcher{number}") for number in range(3)]
REDEEMERS = [account_key_of(f"redeemer{number}") for number in range(3)]
ALICE, BOB, CAROL = (account_key_of(name) for name in ("alice", "bob", "carol"))
SIGNERS = [SigningKey(bytes([number + 1]) * 32) for number in range(4)]


def some_parameters(**changes: Any) -> Parameters:
    values: dict[str, Any] = {
        "validators": tuple(
            Validator(key.address, bytes(signer.verify_key), 10)
            for key, signer in zip(VALIDATORS, SIGNERS, strict=True)
        ),
        "watchers": tuple(key.address for key in WATCHERS),
        "watcher_threshold": 2,
        "redeemers": tuple(key.address for key in REDEEMERS),
        "redeemer_threshold": 2,
        "ethereum_chain": ETHEREUM,
        "pipe": PIPE,
        "epoch_blocks": 2,
        "unbonding_epochs": 2,
    }
    return Parameters(**{**values, **changes})


def some_genesis(**changes: Any) -> Genesis:
    return Genesis(chain=CHAIN, parameters=some_parameters(**changes))


def deposit(account: bytes, amount: int, number: int = 1, **other: Any) -> NotariseDeposit:
    values = {"chain": ETHEREUM, "block": bytes(32), "transaction": number.to_bytes(32), "log_index": 0, **other}
    return NotariseDeposit(account=account, amount=amount, **values)


def bond(owner: AccountKey, node: SigningKey, amount: int) -> Bond:
    return Bond(bytes(node.verify_key), node.sign(bond_statement(owner.address)).signature, amount)


def release(redeemer: AccountKey, number: int, recipient: bytes, amount: int) -> Release:
    digest = release_digest(ETHEREUM, PIPE, number, recipient, amount)
    return Release(number, recipient, amount, redeemer.sign(digest))


class LedgerWorld:
    """Applies blocks to a tree of its own."""

    def __init__(self, **parameters: Any) -> None:
        self.genesis = some_genesis(**parameters)
        self.machine = Machine(CHAIN)
        self.nodes: dict[bytes, bytes] = {}
        self.height = 0
        self.tree = Tree(self.nodes.get, EMPTY)
        self._put(genesis_changes(self.genesis))
        self.validators: list[Any] = []

    def transaction(self, key: AccountKey, kind: str, fields: Any, nonce: int | None = None) -> bytes:
        number = self.account(key).nonce if nonce is None else nonce
        return encode_transaction(key, CHAIN, kind, number, fields)

    def block(self, *transactions: bytes) -> list[Outcome]:
        self.height += 1
        applied = self.machine.apply(self.tree.get, self.height, transactions)
        self._put(applied.changes)
        self.validators.append(applied.validators)
        return applied.outcomes

    def do(self, key: AccountKey, kind: str, fields: Any) -> int:
        """One transaction in a block of its own; returns its code."""
        [outcome] = self.block(self.transaction(key, kind, fields))
        return outcome.code

    def account(self, key: AccountKey) -> Account:
        found: Account | None = self.get(account_key(key.address))
        return found or Account(0, 0)

    def get(self, key: bytes) -> Any:
        return decode_record(key, self.tree.get(key))

    def fund(self, key: AccountKey, amount: int, number: int = 1) -> None:
        """Notarised by as many watchers as it takes."""
        for watcher in WATCHERS[: self.genesis.parameters.watcher_threshold]:
            assert self.do(watcher, "notarise-deposit", deposit(key.address, amount, number)) == 0

    def open(self, *keys: AccountKey) -> None:
        for key in keys:
            assert self.do(key, "new-account", NewAccount()) == 0

    def pay(self, sender: AccountKey, recipient: AccountKey, amount: int) -> int:
        return self.do(sender, "transfer", Transfer(recipient.address, amount))

    def _put(self, changes: Any) -> None:
        updated = self.tree.update(changes)
        self.nodes.update(updated.added)
        for node in updated.removed:
            del self.nodes[node]
        self.tree = Tree(self.nodes.get, updated.root)
        audit(self.tree.items())
