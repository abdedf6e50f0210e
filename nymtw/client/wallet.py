"""`nym-client wallet new|balance|send|withdraw`: an account of the ledger, its key beside the client's others."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.python import usage
from twisted.python.failure import Failure

from nymtw.errors import ConfigError, EncodingError, NymtwError, TransactionRefused
from nymtw.node.home import NodeHome
from nymtw.node.keys import KeyKind, load_private, save_private
from nymtw.node.tap import several

DECIMALS: Final = 18
LEDGER: Final = "http://127.0.0.1:26657"
_FILE: Final = "account_private_key.pem"
_USES: Final = {
    "new": "new",
    "balance": "balance [ADDRESS]",
    "send": "send AMOUNT ADDRESS",
    "withdraw": "withdraw AMOUNT [ADDRESS on Ethereum, else the account's own]",
}


class WalletOptions(usage.Options):
    longdesc = (
        "An account of the ledger. `new` makes its key, once, and the account; `balance` shows what it has; `send` "
        "pays another account; `withdraw` has tokens released on Ethereum. Amounts are in tokens, such as 1.5."
    )
    optParameters: ClassVar[list[Any]] = [
        ["id", None, None, "Name of the client"],
        ["genesis", None, None, "Genesis file: believe validators' signatures alone, not the node that is asked"],
        ["patience", None, 60.0, "Seconds to wait for a block", float],
    ]
    optFlags: ClassVar[list[Any]] = [["json", None, "Print one JSON object"]]
    opt_ledger = several("ledger", f"URL of a node of the ledger; again for each of several ({LEDGER})")

    def parseArgs(self, *words: str) -> None:
        self["words"] = list(words)
        least = {"new": (1, 1), "balance": (1, 2), "send": (3, 3), "withdraw": (2, 3)}
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

    def __init__(self, ledger: Any, home: NodeHome, patience: float, show: Callable[[str], None]) -> None:
        self._ledger = ledger
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
    outcome: list[Any] = []

    def show(text: str) -> None:
        if not options["json"]:
            print(text, flush=True)

    async def work() -> dict[str, Any]:
        name, *words = options["words"]
        try:
            found: dict[str, Any] = await getattr(Wallet(ledger, home, options["patience"], show), name)(*words)
            return found
        finally:
            await ledger.close()

    def start() -> None:
        running = Deferred.fromCoroutine(work())
        running.addBoth(outcome.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    return _show(outcome[0], options["json"]) if outcome else 130


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
