"""What the validators decide together: who may notarise and release, and the limits. Genesis is the first of them."""

import json
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import ConfigError, EncodingError
from nymtw.ledger.machine.signatures import ADDRESS_LENGTH, address_text, parse_address

MAX_AMOUNT: Final = 2**128 - 1
MAX_TRANSACTION: Final = 48 * 1024  # bytes
_MOST: Final = 100  # watchers, redeemers, validators
_MAX_POWER: Final = 2**40
_CHAIN: Final = r"^[a-z0-9][a-z0-9.-]{0,49}$"  # 50 letters: what CometBFT takes

Address = Annotated[bytes, Meta(min_length=ADDRESS_LENGTH, max_length=ADDRESS_LENGTH)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Validator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, order=True):
    """Votes with `address` on parameters; signs blocks with `key` (Ed25519), weighing `power`."""

    address: Address
    key: Key
    power: Annotated[int, Meta(ge=1, le=_MAX_POWER)] = 1


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them. `version` counts the changes; amounts are in the smallest unit."""

    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    validators: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=_MOST)]
    watchers: Annotated[tuple[Address, ...], Meta(max_length=_MOST)] = ()
    watcher_threshold: Annotated[int, Meta(ge=1, le=_MOST)] = 1
    redeemers: Annotated[tuple[Address, ...], Meta(max_length=_MOST)] = ()
    redeemer_threshold: Annotated[int, Meta(ge=1, le=_MOST)] = 1
    ethereum_chain: Annotated[int, Meta(ge=0, le=2**53)] = 0
    pipe: Address = bytes(ADDRESS_LENGTH)
    epoch_blocks: Annotated[int, Meta(ge=1, le=2**32)] = 1000
    unbonding_epochs: Annotated[int, Meta(ge=1, le=2**16)] = 7
    minimum_bond: int = 1
    minimum_withdrawal: int = 1
    new_accounts_per_block: Annotated[int, Meta(ge=0, le=100_000)] = 64
    transaction_bytes: Annotated[int, Meta(ge=1024, le=MAX_TRANSACTION)] = 16 * 1024

    def __post_init__(self) -> None:
        """Raises `ValueError` for what fits each value's limits and still cannot be."""
        for what, members, threshold in (
            ("watcher", self.watchers, self.watcher_threshold),
            ("redeemer", self.redeemers, self.redeemer_threshold),
        ):
            if len(set(members)) != len(members):
                raise ValueError(f"a {what} is named twice")
            if members and threshold > len(members):
                raise ValueError(f"the {what}s' threshold is more than there are")
        for named in ([each.address for each in self.validators], [each.key for each in self.validators]):
            if len(set(named)) != len(named):
                raise ValueError("a validator's address or key is named twice")
        for amount in (self.minimum_bond, self.minimum_withdrawal):
            if not 1 <= amount <= MAX_AMOUNT:
                raise ValueError(f"a least amount is from 1 to {MAX_AMOUNT}")

    @property
    def power(self) -> int:
        """Of all validators together."""
        return sum(validator.power for validator in self.validators)

    @property
    def unbonding_blocks(self) -> int:
        """For so many blocks a bond that was taken back can still be slashed."""
        return self.epoch_blocks * self.unbonding_epochs


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a ledger begins: its name and its first parameters. There is no money yet: all of it is notarised."""

    chain: Annotated[str, Meta(pattern=_CHAIN)]
    parameters: Parameters


def genesis_json(genesis: Genesis) -> bytes:
    """The genesis file: addresses as 0x..., keys in 44 characters, amounts as decimal texts."""
    shown = {"chain": genesis.chain, "parameters": parameters_view(genesis.parameters)}
    return json.dumps(shown, indent=2).encode() + b"\n"


def parse_genesis(content: bytes, name: str = "genesis") -> Genesis:
    """The genesis in the JSON `content`; `name` stands for the file in errors. Raises `ConfigError`."""
    try:
        plain = json.loads(content)
        if not isinstance(plain, dict) or not isinstance(plain.get("parameters"), dict):
            raise ValueError("it is a JSON object with chain and parameters")
        return msgspec.convert({**plain, "parameters": parameters_fields(plain["parameters"])}, Genesis, strict=True)
    except (ValueError, TypeError, KeyError, RecursionError, EncodingError, msgspec.ValidationError) as error:
        raise ConfigError(f"{name}: not a genesis: {error}") from None


def parameters_view(parameters: Parameters) -> dict[str, Any]:
    """As JSON shows them."""
    shown: dict[str, Any] = msgspec.to_builtins(parameters, builtin_types=(bytes,))
    shown["validators"] = [
        {"address": address_text(each.address), "key": key_text(each.key), "power": each.power}
        for each in parameters.validators
    ]
    for name in ("watchers", "redeemers"):
        shown[name] = [address_text(each) for each in getattr(parameters, name)]
    shown["pipe"] = address_text(parameters.pipe)
    for name in ("minimum_bond", "minimum_withdrawal"):
        shown[name] = str(shown[name])
    return shown


def parameters_fields(shown: dict[str, Any]) -> dict[str, Any]:
    """The fields behind `parameters_view`, or some of them.

    Raises `EncodingError`, `ValueError`, `TypeError` or `KeyError`.
    """
    plain = dict(shown)
    if "validators" in plain:
        plain["validators"] = [
            [parse_address(each["address"]), parse_key_text(each["key"]), each.get("power", 1)]
            for each in plain["validators"]
        ]
    for name in ("watchers", "redeemers"):
        if name in plain:
            plain[name] = [parse_address(each) for each in plain[name]]
    if "pipe" in plain:
        plain["pipe"] = parse_address(plain["pipe"])
    for name in ("minimum_bond", "minimum_withdrawal"):
        if name in plain:
            plain[name] = int(plain[name])
    return plain
