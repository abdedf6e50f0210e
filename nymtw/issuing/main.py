"""`nymtw keys deal`: issuing keys from one dealer, as key files."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from twisted.python import usage

from nymtw.errors import ConfigError, NymtwError
from nymtw.node.option_types import CommandOptions

_MOST_ATTRIBUTES: Final = 32
_MOST_ISSUERS: Final = 255


def _number(most: int) -> Any:
    def number(text: str) -> int:
        found = int(text) if text.isascii() and text.isdecimal() else 0
        if not 1 <= found <= most:
            raise ValueError(f"this is a number from 1 to {most}")
        return found

    number.coerceDoc = f"A number from 1 to {most}."  # type: ignore[attr-defined]  # what usage.Options asks for
    return number


class DealOptions(CommandOptions):
    longdesc = (
        "Deals a key for issuing credentials among issuers, so that a threshold of them can sign. The dealer "
        "knows all shares: it is for tests and local networks; issuers who trust no dealer make their key together. "
        "Writes a private and a public key file for each issuer, and the verification key."
    )

    def getSynopsis(self) -> str:
        """Of the command alone, not behind that of `nymtw keys`."""
        return "Usage: nymtw keys deal [options]"

    optParameters = [
        ["attributes", None, 4, "How many attributes the key signs", _number(_MOST_ATTRIBUTES)],
        ["issuers", "n", 5, "How many issuers get a share", _number(_MOST_ISSUERS)],
        ["threshold", "t", 3, "How many issuers it takes to sign", _number(_MOST_ISSUERS)],
        ["folder", "f", None, "The folder for the key files"],
    ]

    def postOptions(self) -> None:
        """Check what belongs together."""
        if not self["folder"]:
            raise usage.UsageError("-f DIR says where the key files go")
        if self["threshold"] > self["issuers"]:
            raise usage.UsageError(f"a threshold of {self['threshold']} cannot be met by {self['issuers']} issuers")


class Options(CommandOptions):
    synopsis = "Usage: nymtw keys COMMAND [options]"
    subCommands = [["deal", None, DealOptions, "Deal the issuing keys of anonymous credentials"]]

    def postOptions(self) -> None:
        """There is nothing to do without a command."""
        if self.subCommand is None:
            raise usage.UsageError("a command is missing")


def deal_to_files(options: DealOptions) -> list[Path]:
    """Deal, write, and return the files. Raises `ConfigError` where the extra is not installed, `KeyFileError`."""
    try:
        import_module("py_arkworks_bls12381")
    except ImportError:
        raise ConfigError("credentials need a library: pip install 'nymtw[credentials]'") from None
    from nymtw.credentials.keys import deal
    from nymtw.issuing.key_files import save_dealt

    dealt = deal(options["attributes"], options["issuers"], options["threshold"])
    return save_dealt(Path(options["folder"]), dealt)


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw keys`; returns the exit status."""
    options = Options()
    try:
        options.parseOptions(list(arguments))
        written = deal_to_files(options.subOptions)
    except usage.UsageError as error:
        print(f"nymtw keys: {error}: see 'nymtw keys deal --help'", file=sys.stderr)
        return 1
    except NymtwError as error:
        print(f"nymtw keys: {error}", file=sys.stderr)
        return 1
    for file in written:
        print(file)
    print("\nEach issuer gets its private key file and no other; the public ones are for everybody.")
    return 0
