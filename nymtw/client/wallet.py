"""`nym-client wallet`: an account of the ledger, its key beside the client's others."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.errors import ConfigError, EncodingError, NymtwError, TransactionRefused
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, load_private, save_private
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import several

DECIMALS: Final = 18
LEDGER: Final = "http://127.0.0.1:26657"
ETHEREUM: Final = "http://127.0.0.1:8545"
FAUCET: Final = "http://127.0.0.1:4200"
_FILE: Final = "account_private_key.pem"
_USES: Final = {
    "new": "new",
    "balance": "balance [ADDRESS]",
    "faucet": f"faucet [URL, else {FAUCET}]",
    "pipe": "pipe AMOUNT [ADDRESS on the ledger, else the account's own]",
    "send": "send AMOUNT ADDRESS",
    "withdraw": "withdraw AMOUNT [ADDRESS on Ethereum, else the account's own]",
}


class WalletOptions(CommandOptions):
    longdesc = (
        "An account of the ledger. `new` makes its key, once, and the account; `balance` shows what it has; `pipe` "
        "brings tokens from the same address on Ethereum; `send` pays another account; `withdraw` has tokens released "
        "on Ethereum; `faucet` asks for test tokens there. Amounts are in tokens, such as 1.5."
    )
    optParameters: ClassVar[list[Any]] = [
        ["id", None, None, "Name of the client"],
        ["genesis", None, None, "Genesis file: believe validators' signatures alone, not the node that is asked"],
        ["patience", None, 60.0, "Seconds to wait for a block, or for any news of a transfer", float],
        ["ethereum", None, ETHEREUM, "URL of an Ethereum node"],
    ]
    optFlags: ClassVar[list[Any]] = [["json", None, "Print one JSON object"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({LEDGER})")

    def parseArgs(self, *words: str) -> None:
        self["words"] = list(words)
        least = {"new": (1, 1), "balance": (1, 2), "send": (3, 3), "withdraw": (2, 3), "pipe": (2, 3), "faucet": (1, 2)}
        if not words or words[0] not in least or not least[words[0]][0] <= len(words) <= least[words[0]][1]:
            raise usage.UsageError(f"what to do is one of: {', '.join(_USES.values())}")

    def postOptions(self) -> None:
        if self["id"] is None:
            raise usage.UsageError("--id is needed")


def parse_amount(text: str) -> int:
    """The smallest units in an amount of tokens, such as "1.5": exactly. Raises `ConfigError`."""
    whole, _, part = text.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdecimal() and len(whole) <= 21 and len(part) <= DECIMALS):
        raise ConfigError(f"an amount is in tokens, with up to {DECIMALS} decimals, such as 1.5, not {text!r:.60}")
    return int(digits) * 10 ** (DECIMALS - len(part))


def amount_text(amount: int) -> str:
    """Smallest units as tokens, exactly, without zeros at the end."""
    whole, part = divmod(amount, 10**DECIMALS)
    return f"{whole}.{part:018d}".rstrip("0").rstrip(".")


class Wallet:
    """What the commands do. `show(text)` is for progress; each method returns what `--json` prints."""

    def __init__(
        self, ledger: Any, home: NodeHome, patience: float, show: Callable[[str], None], ethereum: Any = None
    ) -> None:
        """`ethereum`: clock, `EthereumNode`, and a function that posts JSON to a URL; for what is done there."""
        self._ledger = ledger
        self._ethereum = ethereum
        self._home = home
        self._patience = patience
        self._show = show

    async def new(self) -> dict[str, Any]:
        """Make the key, unless it is there, and the account. Raises `NymtwError`."""
        from nymtw.ledger.clients import account, send
        from nymtw.ledger.machine.kinds.new_account import NewAccount
        from nymtw.ledger.machine.signatures import AccountKey, address_text

        if not self._key_file.exists():
            self._home.create()
            save_private(self._key_file, KeyKind.ACCOUNT, AccountKey.generate().secret)
            self._show(f"Saved the account's private key to {self._key_file}")
        key = self.key()
        shown: dict[str, Any] = {"address": address_text(key.address)}
        if await account(self._ledger, key.address) is None:
            self._show(f"Waiting for a block with the account {shown['address']}")
            place = await send(self._ledger, key, "new-account", NewAccount(), self._patience)
            return {**shown, "height": place.height}
        return shown

    async def balance(self, address: str | None = None) -> dict[str, Any]:
        """What an account has, ours or the one that is named. Raises `NymtwError`."""
        from nymtw.ledger.clients import account, bond
        from nymtw.ledger.machine.signatures import address_text, parse_address

        place = self.key().address if address is None else parse_address(address)
        found, stake = await account(self._ledger, place), await bond(self._ledger, place)
        return {
            "address": address_text(place),
            "exists": found is not None,
            "balance": amount_text(found.balance if found else 0),
            "bonded": amount_text(stake.amount if stake else 0),
            "unbonding": amount_text(stake.leaving if stake else 0),
        }

    async def send(self, amount: str, address: str) -> dict[str, Any]:
        """Pay another account. Raises `NymtwError`."""
        from nymtw.ledger.machine.kinds.transfer import Transfer
        from nymtw.ledger.machine.signatures import parse_address

        return await self._do("transfer", Transfer(parse_address(address), parse_amount(amount)))

    async def withdraw(self, amount: str, address: str | None = None) -> dict[str, Any]:
        """Have tokens released on Ethereum. Raises `NymtwError`."""
        from nymtw.ledger.machine.kinds.withdraw import Withdraw
        from nymtw.ledger.machine.signatures import parse_address

        recipient = self.key().address if address is None else parse_address(address)
        return await self._do("withdraw", Withdraw(recipient, parse_amount(amount)))

    async def pipe(self, amount: str, address: str | None = None) -> dict[str, Any]:
        """Bring tokens from Ethereum, to our account or another one. Raises `NymtwError`."""
        from nymtw.client.wallet_pipe import PipeIn
        from nymtw.ethereum.node import hex_text
        from nymtw.ledger.machine.signatures import address_text, parse_address

        key, units = self.key(), parse_amount(amount)
        if not units:
            raise ConfigError("an amount of nothing cannot be brought")
        account = key.address if address is None else parse_address(address)
        clock, node, _ = self._ethereum
        transfer = PipeIn(clock, node, self._ledger, key, self._patience, self._show)
        transaction, height = await transfer.send(units, account)
        after = await self.balance(address_text(account))
        return {"transaction": hex_text(transaction), "height": height, "balance": after["balance"]}

    async def faucet(self, url: str = FAUCET) -> dict[str, Any]:
        """Ask for test tokens, and wait for them. Raises `NymtwError`."""
        from nymtw.ethereum.node import octets
        from nymtw.ledger.machine.signatures import address_text

        clock, node, post = self._ethereum
        code, shown = await post(url, {"address": address_text(self.key().address)})
        if code != 200 or not isinstance(shown, dict) or not isinstance(shown.get("transactions"), list):
            cause = shown.get("error") if isinstance(shown, dict) else None
            raise ConfigError(f"the faucet gives nothing: {cause or f'status {code}'}"[:300])
        self._show("Waiting for a block on Ethereum")
        end = clock.seconds() + self._patience
        for each in shown["transactions"]:
            while await node.receipt(octets(each, 32)) is None:
                if clock.seconds() > end:
                    raise ConfigError(f"what the faucet sent is in no block after {self._patience:g} seconds")
                await deferLater(clock, 0.5, lambda: None)
        return {"transactions": shown["transactions"]}

    def key(self) -> Any:
        """The account's key. Raises `KeyFileError`."""
        from nymtw.ledger.machine.signatures import AccountKey

        return AccountKey(load_private(self._key_file, KeyKind.ACCOUNT))

    async def _do(self, kind: str, fields: Any) -> dict[str, Any]:
        from nymtw.ledger.clients import send

        key = self.key()
        self._show("Waiting for a block")
        place = await send(self._ledger, key, kind, fields, self._patience)
        after = await self.balance()
        return {"height": place.height, "position": place.position, "balance": after["balance"]}

    @property
    def _key_file(self) -> Path:
        return self._home.config / _FILE


def wallet(options: WalletOptions) -> int:
    """Run one command on the reactor; an error is one line."""
    try:
        import nymtw.ledger.machine.signatures  # noqa: F401
    except ImportError:
        raise ConfigError("the wallet needs more: pip install 'nymtw[ledger]'") from None
    from twisted.internet import reactor as module

    reactor: Any = module
    home = NodeHome("client", options["id"])
    ledger = _ledger(reactor, options)
    ethereum = _ethereum(reactor, options) if options["words"][0] in ("pipe", "faucet") else None
    outcome: list[Any] = []

    def show(text: str) -> None:
        if not options["json"]:
            print(text, flush=True)

    async def work() -> dict[str, Any]:
        name, *words = options["words"]
        try:
            does = Wallet(ledger, home, options["patience"], show, ethereum)
            found: dict[str, Any] = await getattr(does, name)(*words)
            return found
        finally:
            await ledger.close()
            if ethereum is not None:
                await ethereum[1].close()

    def start() -> None:
        running = Deferred.fromCoroutine(work())
        running.addBoth(outcome.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    return _show(outcome[0], options["json"]) if outcome else 130


def _ethereum(reactor: Any, options: WalletOptions) -> Any:
    """What `Wallet` needs for Ethereum. Raises `ConfigError`."""
    try:
        import eth_account  # noqa: F401

        from nymtw.ethereum.jsonrpc import EthereumRPC
        from nymtw.ethereum.node import EthereumNode
    except ImportError:
        raise ConfigError("this needs more: pip install 'nymtw[ethereum]'") from None
    from nymtw.ledger.rpc.client import check_ledger_url
    from nymtw.ledger.rpc.http import JSONClient

    async def post(url: str, body: Any) -> tuple[int, Any]:
        client = JSONClient(reactor, check_ledger_url(url))
        try:
            return await client.post("/give", json.dumps(body).encode(), "application/json", options["patience"])
        finally:
            await client.close()

    return reactor, EthereumNode(EthereumRPC(reactor, options["ethereum"])), post


def _ledger(reactor: Any, options: WalletOptions) -> Any:
    import time

    from nymtw.ledger.light import LightLedger, Trust
    from nymtw.ledger.machine.parameters import parse_genesis
    from nymtw.ledger.rpc.client import HTTPLedger

    ledger: Any = HTTPLedger(reactor, options.get("ledger") or [LEDGER])
    if options["genesis"] is not None:
        try:
            content = Path(options["genesis"]).read_bytes()
        except OSError as error:
            raise ConfigError(f"{options['genesis']}: {error.strerror}") from None
        ledger = LightLedger(ledger, Trust(parse_genesis(content, options["genesis"]), time.time))
    return ledger


def _show(result: Any, as_json: bool) -> int:
    if isinstance(result, Failure):
        if not result.check(NymtwError, EncodingError):
            result.raiseException()
        error: Any = result.value
        code = {"code": int(error.code)} if isinstance(error, TransactionRefused) else {}
        if as_json:
            print(json.dumps({"error": str(error), **code}))
        else:
            print(f"nym-client wallet: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name + ':':10} {value}")
    return 0
