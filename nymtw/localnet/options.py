"""The command line of `nymtw localnet`."""

from pathlib import Path
from typing import Any

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.localnet.validators import CHAINS, CONSENSUS
from nymtw.node.option_types import CommandOptions

MOST_MIXNODES = 20
MOST_PROVIDERS = 50
MOST_GATEWAYS = 50


def _count(most: int, least: int = 1) -> Any:
    def count(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() else -1
        if not least <= number <= most:
            raise ValueError(f"this is a number from {least} to {most}")
        return number

    count.coerceDoc = f"A number from {least} to {most}."  # type: ignore[attr-defined]  # what usage.Options asks for
    return count


def _number(least: float, most: float, what: str) -> Any:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError(f"this is {what} from {least:g} to {most:g}")
        return value

    number.coerceDoc = f"{what[0].upper()}{what[1:]} from {least:g} to {most:g}."  # type: ignore[attr-defined]  # for usage.Options
    return number


_rate = _number(1, 1000, "a number of packets a second")
_seconds = _number(1, 86400, "a number of seconds")


class Options(CommandOptions):
    synopsis = "Usage: nymtw localnet [options]"
    longdesc = (
        "A private mixnet on this machine: a directory, mixnodes in three layers, store-and-forward providers, a web "
        "proxy, gateways that are exits too, and the clients alice and bob, each a process of its own. Sends a first "
        "message from alice to bob, then runs until Ctrl-C. With --validators also a chain of Ethereum, the ledger, "
        "and who brings tokens from one to the other."
    )
    optParameters: list[list[Any]] = [
        ["dir", None, None, "Keep keys, mailboxes and logs in this folder; without it they are gone at the end"],
        ["mixnodes-per-layer", None, 2, "Mixnodes in each of the three layers", _count(MOST_MIXNODES)],
        ["providers", None, 2, "Store-and-forward providers", _count(MOST_PROVIDERS)],
        ["gateways", None, 1, "Gateways; alice is at the first of them, if there is one", _count(MOST_GATEWAYS, 0)],
        ["rate", None, None, "Packets a second that each client sends [default: what this machine is good for]", _rate],
        ["timeout", None, 120.0, "Seconds without any progress after which a start has failed", _seconds],
        ["consensus", None, None, "With --validators: embedded (one validator, usual) or cometbft (four of them)"],
        ["ethereum", None, None, "With --validators: what computes Ethereum's chain: evm (usual), anvil or geth"],
        ["send", None, None, "Send this file from alice to bob, who writes it to DIR/received/"],
    ]
    optFlags: list[list[Any]] = [
        [
            "padded",
            None,
            "Fill the lines and the services' streams with cover, as a real network does: it takes this machine's "
            "time, and carries clients at the recommended rates alone",
        ],
        ["validators", None, "Start the ledger and its chain of Ethereum too, and bring tokens in and out once"],
        ["exit", None, "Stop once the first message, and the file if there is one, have arrived"],
    ]

    def postOptions(self) -> None:
        for name, known in (("consensus", CONSENSUS), ("ethereum", CHAINS)):
            if self[name] is not None and not self["validators"]:
                raise usage.UsageError(f"--{name} needs --validators")
            if self[name] not in (None, *known):
                raise usage.UsageError(f"--{name} is one of {', '.join(known)}")
        if self["send"] == "":
            raise usage.UsageError("--send needs the name of a file")
        if self["dir"] == "":
            raise usage.UsageError("--dir needs the name of a folder")


def read_file(name: str, limit: int) -> bytes:
    """What is in the file `name`. Raises `ConfigError` in one line if it cannot be read or is longer than `limit`."""
    path = Path(name)
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
    if len(content) > limit:
        raise ConfigError(f"{name}: longer than a message may be ({limit} bytes)")
    return content
