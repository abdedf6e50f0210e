"""A validator's files: keys, genesis, `config.toml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from nacl.signing import SigningKey

from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import ConfigError, EncodingError
from nymtw.ledger.cometbft.files import node_id
from nymtw.ledger.machine.parameters import Genesis, Validator, genesis_json, parse_genesis
from nymtw.ledger.machine.signatures import AccountKey, address_text, parse_address
from nymtw.node.config import load_config
from nymtw.node.home import NodeHome, write_file
from nymtw.node.keys import KeyKind, load_or_create_identity, load_private, save_private
from nymtw.validator.config import COMETBFT, HEADING, ValidatorConfig

_GENESIS_LIMIT: Final = 2**20  # bytes


class ValidatorKeys(NamedTuple):
    """`identity` signs blocks, `node` is known to peers, `account` signs transactions."""

    identity: SigningKey
    node: SigningKey
    account: AccountKey

    @property
    def line(self) -> str:
        """What a genesis is told of this validator: ADDRESS=KEY."""
        return f"{address_text(self.account.address)}={key_text(bytes(self.identity.verify_key))}"


def open_home(name: str, base: Path | None = None) -> NodeHome:
    """The home of the validator `name`, made and locked. Raises `ConfigError`."""
    home = NodeHome("validator", name, base)
    home.create()
    home.lock()
    return home


def load_keys(home: NodeHome) -> ValidatorKeys:
    """The keys in `home/config`; those that are missing are made. Raises `KeyFileError`."""
    return ValidatorKeys(
        load_or_create_identity(home),
        SigningKey(_load_or_create(home.config / "node_private_key.pem", KeyKind.IDENTITY)),
        AccountKey(_load_or_create(home.config / "account_private_key.pem", KeyKind.ACCOUNT)),
    )


def genesis_file(home: NodeHome) -> Path:
    """Where the genesis is."""
    return home.config / "genesis.json"


def load_genesis(home: NodeHome) -> Genesis:
    """The genesis of the home. Raises `ConfigError`, also where there is none."""
    return read_genesis(genesis_file(home), "run `nym-validator init` first")


def read_genesis(path: Path, hint: str = "") -> Genesis:
    """The genesis in a file. Raises `ConfigError`; `hint` is added where there is no such file."""
    try:
        with open(path, "rb") as file:
            content = file.read(_GENESIS_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there{': ' if hint else ''}{hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > _GENESIS_LIMIT:
        raise ConfigError(f"{path}: longer than {_GENESIS_LIMIT} bytes")
    return parse_genesis(content, str(path))


def write_genesis(path: Path, genesis: Genesis) -> None:
    """Put the genesis into a file. Raises `ConfigError`."""
    try:
        write_file(path, genesis_json(genesis))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def make_genesis(chain: str, validators: list[str], given: Mapping[str, Any]) -> Genesis:
    """A genesis of what the command line says: `validators` each ADDRESS=KEY or ADDRESS=KEY=POWER, and of `given`
    watchers, redeemers (addresses), their thresholds, ethereum_chain, pipe. Raises `ConfigError`.
    """
    try:
        fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in ("watchers", "redeemers"):
            fields[name] = tuple(parse_address(each) for each in given.get(name) or ())
        if given.get("pipe"):
            fields["pipe"] = parse_address(given["pipe"])
        plain = {
            "chain": chain,
            "parameters": {
                **fields,
                "validators": [msgspec.structs.astuple(parse_validator(each)) for each in validators],
            },
        }
        return msgspec.convert(plain, Genesis, strict=True, builtin_types=(bytes,))
    except (EncodingError, msgspec.ValidationError) as error:
        raise ConfigError(f"not a genesis: {error}") from None


def parse_validator(text: str) -> Validator:
    """The validator behind ADDRESS=KEY or ADDRESS=KEY=POWER. Raises `EncodingError`."""
    address, _, rest = text.partition("=")
    key, power = rest[:44], rest[44:]
    if power and not (power[0] == "=" and power[1:].isdecimal() and len(power) < 15):
        raise EncodingError(f"a validator is ADDRESS=KEY or ADDRESS=KEY=POWER, not {text!r:.120}")
    return Validator(parse_address(address), parse_key_text(key), int(power[1:]) if power else 1)


def load_validator_config(home: NodeHome, given: Mapping[str, Mapping[str, Any]]) -> ValidatorConfig:
    """Read or write the home's `config.toml`. Raises `ConfigError`."""
    return load_config(home.config_file, ValidatorConfig, given, HEADING)


def shown(keys: ValidatorKeys, config: ValidatorConfig) -> list[str]:
    """What other validators, and a genesis, need to know of this one."""
    comet = config.cometbft
    host = f"[{comet.host}]" if ":" in comet.host else comet.host
    return [
        f"Its address is {address_text(keys.account.address)}",
        f"For a genesis: --validator {keys.line}",
        f"For other nodes: --peer {node_id(keys.node)}@{host}:{comet.port}",
    ]


def init(
    home: NodeHome,
    given: Mapping[str, Mapping[str, Any]],
    genesis: Genesis | Path | None,
    chain: str,
    parameters: Mapping[str, Any],
) -> tuple[ValidatorKeys, ValidatorConfig, Genesis | None]:
    """Make what is missing: keys, `config.toml`, and a genesis, which is a copy of the file `genesis`, or of this
    validator alone; with CometBFT, where others have a part in it, none without the file. One that is there stays, and
    must then be the same. Raises `NymtwError`.
    """
    keys = load_keys(home)
    config = load_validator_config(home, given)
    path = genesis_file(home)
    if isinstance(genesis, Path):
        genesis = read_genesis(genesis)
    if path.exists():
        known = read_genesis(path)
        if genesis is not None and genesis_json(genesis) != genesis_json(known):
            raise ConfigError(f"{path}: there is another genesis already")
        return keys, config, known
    if genesis is None and config.validator.consensus == COMETBFT:
        return keys, config, None
    made = make_genesis(chain, [keys.line], parameters) if genesis is None else genesis
    write_genesis(path, made)
    return keys, config, made


def _load_or_create(path: Path, kind: KeyKind) -> bytes:
    if not path.exists():
        made = AccountKey.generate().secret if kind is KeyKind.ACCOUNT else bytes(SigningKey.generate())
        save_private(path, kind, made)
    return load_private(path, kind)
