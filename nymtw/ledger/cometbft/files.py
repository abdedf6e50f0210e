"""What CometBFT reads: keys, genesis and config.toml in a folder of its own, all of it made by us.

It runs without its own `init`: keys are the node's own, and config.toml holds what differs from CometBFT's defaults.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomlkit
from nacl.signing import SigningKey

from nymtw.errors import ConfigError
from nymtw.ledger.machine.parameters import Genesis, Validator, genesis_json

BINARY: Final = "NYMTW_COMETBFT"
VERSION: Final = "0.38.26"
BLOCK_BYTES: Final = 4 * 2**20
# When every chain begins for CometBFT, so that nodes agree on the first block's time without another value to share.
_GENESIS_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SOCKET_LENGTH: Final = 100  # bytes: what an address of a Unix socket holds, with a margin


class CometPorts(NamedTuple):
    """Where CometBFT listens: for its peers, and on this machine alone for us."""

    host: str
    p2p: int
    rpc: int


def find_cometbft(environ: Mapping[str, str] = os.environ) -> str:
    """The program: what NYMTW_COMETBFT names, or `cometbft` on the PATH. Raises `ConfigError`."""
    named = environ.get(BINARY)
    found = shutil.which(named or "cometbft", path=environ.get("PATH"))
    if found is None:
        where = f"{BINARY}={named}" if named else "the PATH"
        raise ConfigError(f"there is no CometBFT at {where}; `tools/build-cometbft` builds it, or set {BINARY}")
    return found


def node_id(key: SigningKey) -> str:
    """How peers name a node: 40 hexadecimal digits of the SHA-256 of its key."""
    return sha256(bytes(key.verify_key)).hexdigest()[:40]


def write_home(
    folder: Path,
    genesis: Genesis,
    validator: SigningKey,
    node: SigningKey,
    ports: CometPorts,
    application: str,
    *,
    peers: list[str],
    block_seconds: float,
    idle: float,
    strict: bool,
    state_sync: Mapping[str, Any] | None = None,
) -> None:
    """Write all that CometBFT needs under `folder`; what it has written itself stays. Raises `ConfigError`.

    `validator` signs blocks, `node` is known to peers. `application`: the ABCI server's address, unix:///PATH.
    `peers`: each ID@HOST:PORT. `block_seconds`: from one block to the next. `idle`: seconds to an empty block; 0: none.
    `strict`: whether peers must have public addresses of their own. `state_sync`: rpc_servers, trust_height and
    trust_hash.
    """
    config, kept = folder / "config", folder / "data"
    try:
        for made in (config, kept):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(config / "node_key.json", {"priv_key": _private(node)})
        _write(
            config / "priv_validator_key.json",
            {
                "address": node_id(validator).upper(),
                "pub_key": _public(bytes(validator.verify_key)),
                "priv_key": _private(validator),
            },
        )
        if not (kept / "priv_validator_state.json").exists():
            _write(kept / "priv_validator_state.json", {"height": "0", "round": 0, "step": 0})
        _write(config / "genesis.json", comet_genesis(genesis))
        settings = _settings(ports, application, peers, block_seconds, idle, strict, state_sync)
        _write_text(config / "config.toml", tomlkit.dumps(settings))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None


def comet_genesis(genesis: Genesis) -> dict[str, Any]:
    """CometBFT's genesis, with ours as the application's state."""
    return {
        "genesis_time": _GENESIS_TIME.isoformat().replace("+00:00", "Z"),
        "chain_id": genesis.chain,
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(BLOCK_BYTES), "max_gas": "-1"},
            "evidence": {
                "max_age_num_blocks": "100000",
                "max_age_duration": str(14 * 86400 * 10**9),
                "max_bytes": "1048576",
            },
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": "1"},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": [_validator(each) for each in genesis.parameters.validators],
        "app_hash": "",
        "app_state": json.loads(genesis_json(genesis)),
    }


def socket_path(data: Path, scratch: Callable[[], Path]) -> Path:
    """Where the ABCI server listens: in `data`, or in `scratch()` where that is too long for a socket's address."""
    path = data / "abci.sock"
    return path if len(os.fsencode(path)) < _SOCKET_LENGTH else scratch() / "abci.sock"


def _settings(
    ports: CometPorts,
    application: str,
    peers: list[str],
    block_seconds: float,
    idle: float,
    strict: bool,
    state_sync: Mapping[str, Any] | None,
) -> dict[str, Any]:
    host = f"[{ports.host}]" if ":" in ports.host else ports.host
    milliseconds = f"{round(block_seconds * 1000)}ms"
    return {
        "proxy_app": application,
        "abci": "socket",
        "log_level": "error",
        "filter_peers": False,
        "rpc": {"laddr": f"tcp://127.0.0.1:{ports.rpc}", "pprof_laddr": ""},
        "p2p": {
            "laddr": f"tcp://{host}:{ports.p2p}",
            "persistent_peers": ",".join(peers),
            "addr_book_strict": strict,
            "allow_duplicate_ip": not strict,
            "pex": strict,
        },
        "mempool": {"size": 10_000, "max_txs_bytes": 32 * 2**20, "max_tx_bytes": 2**16, "cache_size": 20_000},
        "consensus": {
            "timeout_commit": milliseconds,
            "create_empty_blocks": False,
            "create_empty_blocks_interval": f"{round(idle * 1000)}ms",
        },
        # Our own store knows where a transaction is.
        "tx_index": {"indexer": "null"},
        "statesync": {
            "enable": bool(state_sync),
            **({} if state_sync is None else {**state_sync, "trust_period": "336h0m0s", "discovery_time": "5s"}),
        },
    }


def _validator(validator: Validator) -> dict[str, Any]:
    return {
        "address": sha256(validator.key).hexdigest()[:40].upper(),
        "pub_key": _public(validator.key),
        "power": str(validator.power),
        "name": "",
    }


def _public(key: bytes) -> dict[str, str]:
    return {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(key).decode()}


def _private(key: SigningKey) -> dict[str, str]:
    both = bytes(key) + bytes(key.verify_key)
    return {"type": "tendermint/PrivKeyEd25519", "value": base64.b64encode(both).decode()}


def _write(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, content: str) -> None:
    scratch = path.with_name(f".{path.name}.new")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)
    scratch.replace(path)
