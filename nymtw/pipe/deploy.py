"""`nymtw contracts deploy`: a pipe, and a token where there is none, on an Ethereum chain."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python import usage

from nymtw.errors import ConfigError, NymtwError
from nymtw.node.keys import KeyKind, load_private
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import several
from nymtw.pipe.config import ETHEREUM
from nymtw.pipe.roles import require_ethereum

SUPPLY = 10**9  # tokens


class DeployOptions(CommandOptions):
    synopsis = "Usage: nymtw contracts deploy [options]"
    longdesc = (
        "Puts the pipe contract on an Ethereum chain, for redeemers whose addresses `nym-redeemer show` prints, and a "
        "token before, unless --token names one. Neither can be changed afterwards."
    )
    optParameters: ClassVar[list[Any]] = [
        ["ethereum", None, ETHEREUM, "URL of an Ethereum node"],
        ["key", None, None, "Key file of the account that pays, and has all of a new token"],
        ["token", None, None, "Address of an ERC-20 token that is there [default: a new one]"],
        ["supply", None, SUPPLY, "Tokens that a new one has", int],
        ["threshold", None, None, "How many redeemers release a withdrawal [default: more than half]", int],
    ]
    optFlags: ClassVar[list[Any]] = [["json", None, "Print one JSON object"]]
    opt_redeemer = several("redeemer", "Address of a redeemer; again for each of them")

    def postOptions(self) -> None:
        if not self.get("redeemer"):
            raise usage.UsageError("--redeemer is needed, once for each of them")
        if self["key"] is None:
            raise usage.UsageError("--key is needed")


class Options(CommandOptions):
    synopsis = "Usage: nymtw contracts deploy [options]"
    subCommands: ClassVar[list[Any]] = [["deploy", None, DeployOptions, "Put a pipe on an Ethereum chain"]]

    def postOptions(self) -> None:
        if not self.subCommand:
            raise usage.UsageError("what to do is: deploy")


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw contracts`; returns the exit status."""
    options = Options()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"nymtw contracts: {error}: see 'nymtw contracts deploy --help'", file=sys.stderr)
        return 1
    try:
        require_ethereum()
        asked = _asked(options.subOptions)
    except NymtwError as error:
        print(f"nymtw contracts: {error}", file=sys.stderr)
        return 1
    status: list[int] = []

    async def work(reactor: Any) -> None:
        try:
            await _deploy(reactor, options.subOptions, *asked)
        except NymtwError as error:
            print(f"nymtw contracts: {error}", file=sys.stderr)
            status.append(1)

    try:
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
    except SystemExit as end:
        status.append(int(end.code or 0))
    return max(status)


def _asked(options: Any) -> tuple[Any, list[bytes], int, bytes | None]:
    """Key, redeemers, threshold, token. Raises `NymtwError`."""
    from nymtw.ethereum.jsonrpc import check_ethereum_url
    from nymtw.ledger.machine.signatures import AccountKey, parse_address

    check_ethereum_url(options["ethereum"])
    redeemers = [parse_address(each) for each in options["redeemer"]]
    threshold = len(redeemers) // 2 + 1 if options["threshold"] is None else options["threshold"]
    if not 0 < threshold <= len(redeemers):
        raise ConfigError(f"--threshold is from 1 to the number of redeemers, {len(redeemers)}")
    token = None if options["token"] is None else parse_address(options["token"])
    return AccountKey(load_private(Path(options["key"]), KeyKind.ACCOUNT)), redeemers, threshold, token


async def _deploy(
    reactor: Any, options: Any, key: Any, redeemers: Sequence[bytes], threshold: int, token: bytes | None
) -> None:
    from nymtw.ethereum.jsonrpc import EthereumRPC
    from nymtw.ethereum.node import EthereumNode
    from nymtw.ledger.machine.signatures import address_text

    node = EthereumNode(EthereumRPC(reactor, options["ethereum"]))
    try:
        chain, made, pipe = await deploy(reactor, node, key, redeemers, threshold, options["supply"], token)
    finally:
        await node.close()
    found = {"chain": chain, "token": address_text(made), "pipe": address_text(pipe)}
    if options["json"]:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name + ':':7} {value}" for name, value in found.items()))
        print(f"For a genesis: --ethereum-chain {chain} --pipe {found['pipe']} --redeemer-threshold {threshold}")


async def deploy(
    clock: Any,
    node: Any,
    key: Any,
    redeemers: Sequence[bytes],
    threshold: int,
    supply: int = SUPPLY,
    token: bytes | None = None,
) -> tuple[int, bytes, bytes]:
    """Chain, token and pipe. `supply`: of a new token, in tokens, all for `key`. Raises `EthereumError`."""
    from nymtw.ethereum.contracts import deploy_pipe, deploy_token
    from nymtw.ethereum.transactions import TransactionSender

    chain = await node.chain()
    sender = TransactionSender(clock, node, key, chain)
    if token is None:
        token = await sender.deploy(deploy_token(supply * 10**18))
    return chain, token, await sender.deploy(deploy_pipe(token, redeemers, threshold))
