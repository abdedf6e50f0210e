"""`nymtw network`: names for networks. Adds the file of one, lists them, and says which one commands mean."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from twisted.python import usage

from nymtw.errors import ConfigError, NymtwError
from nymtw.node.networks import LOCALNET, LONGEST, NETWORK_PATH, Network, Networks, parse_network, same_digest
from nymtw.node.option_types import CommandOptions, options_first

PROGRAM: Final = "nymtw network"
PATIENCE: Final = 15.0  # seconds for a network file from the web
_WORDS: Final = {
    "add": ("NAME FILE-or-URL", "Add a network by its file; of a directory, its URL is enough"),
    "list": ("", "List the networks; an asterisk marks the one in use"),
    "use": ("NAME", "Have commands mean this network"),
    "show": ("[NAME]", "Print a network's file, to give to others"),
    "remove": ("NAME", "Forget a network"),
}


class NetworkOptions(CommandOptions):
    synopsis = "Usage: nymtw network " + " | ".join(f"{word} {needs}".strip() for word, (needs, _) in _WORDS.items())
    longdesc = (
        "Names for networks. A network's file says where its directories are and which keys sign for them; its digest "
        "is short enough to read aloud, so that two people can compare what they have. With a network in use, no "
        "command needs --directory or --directory-key; --network NAME chooses another one for a command.\n"
        + "\n".join(f"{f'{word} {needs}'.strip()}: {about}. " for word, (needs, about) in _WORDS.items())
    )
    optParameters: list[list[Any]] = [
        ["digest", None, None, "With add: refuse the file unless this is its digest"],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`, with the words before or after the options."""
        super().parseOptions(options_first(self, sys.argv[1:] if options is None else options))

    def parseArgs(self, *words: str) -> None:
        """Take what is to be done, and with which network."""
        counts = {"add": (2, 2), "list": (0, 0), "use": (1, 1), "show": (0, 1), "remove": (1, 1)}
        if not words or words[0] not in counts:
            raise usage.UsageError(f"what to do is one of: {', '.join(counts)}")
        least, most = counts[words[0]]
        if not least <= len(words) - 1 <= most:
            raise usage.UsageError(f"{words[0]} needs: {_WORDS[words[0]][0] or 'nothing more'}")
        self["word"], self["names"] = words[0], list(words[1:])

    def postOptions(self) -> None:
        """Raises `UsageError` for a digest that nothing is compared with."""
        if self["digest"] is not None and self["word"] != "add":
            raise usage.UsageError("--digest has no effect but with add")


def main(arguments: Sequence[str]) -> int:
    """Run `nymtw network` with these arguments; returns the exit status."""
    options = NetworkOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"{PROGRAM}: {error}: see '{PROGRAM} --help'", file=sys.stderr)
        return 1
    actions = {"add": _add, "list": _list, "use": _use, "show": _show, "remove": _remove}
    try:
        actions[options["word"]](Networks(), options["names"], options["digest"])
    except NymtwError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _add(networks: Networks, names: Sequence[str], digest: str | None) -> None:
    name, source = names
    if name == LOCALNET:
        raise ConfigError(f"{name!r} is the name that 'nymtw localnet' takes: choose another one")
    network = parse_network(read_source(source), source)
    found = network.digest()
    if digest is not None and not same_digest(digest, found):
        raise ConfigError(f"{source}: its digest is {found}, not {digest:.80}")
    if name in networks.names() and (known := networks.load(name)) != network:
        raise ConfigError(f"there is another network called {name!r}, {known.digest()}: remove it, or choose a name")
    networks.save(name, network)
    print(f"{name}: {_line(network)}")
    if digest is None:
        print("Compare this digest with that of somebody who knows the network: who gave you the file could lie.")
    in_use = networks.in_use()
    print("It is the network in use." if in_use == name else f"{in_use} is in use: '{PROGRAM} use {name}' changes that")


def _list(networks: Networks, names: Sequence[str], digest: str | None) -> None:
    in_use = networks.in_use()
    known = networks.names()
    if not known:
        print(f"No network is known: '{PROGRAM} add NAME FILE-or-URL' adds one, 'nymtw localnet' starts one")
    width = max(map(len, known), default=0)
    for name in known:
        try:
            said = _line(networks.load(name))
        except ConfigError as error:
            said = str(error)  # one that cannot be read does not hide the others
        print(f"{'*' if name == in_use else ' '} {name:{width}}  {said}")


def _use(networks: Networks, names: Sequence[str], digest: str | None) -> None:
    networks.use(names[0])
    print(f"{names[0]} is in use: {_line(networks.load(names[0]))}")


def _show(networks: Networks, names: Sequence[str], digest: str | None) -> None:
    name = names[0] if names else networks.in_use()
    if not name:
        raise ConfigError("no network is in use: say which one")
    network = networks.load(name)
    print(network.text(), end="")
    print(f"Its digest is {network.digest()}", file=sys.stderr)


def _remove(networks: Networks, names: Sequence[str], digest: str | None) -> None:
    networks.remove(names[0])
    print(f"{names[0]} is removed; clients and nodes that were made for it stay")


def _line(network: Network) -> str:
    trust = network.trust
    signing = f", {trust.threshold} of {len(trust.directories)} sign" if len(trust.directories) > 1 else ""
    return f"{network.digest()}  {' '.join(network.directories)}{signing}"


def read_source(source: str) -> bytes:
    """A network file: of this path, `-` for standard input, or at this URL, as far as `LONGEST` goes.

    Raises `ConfigError`.
    """
    if "://" in source:
        return _fetch(source)
    try:
        if source == "-":
            return sys.stdin.buffer.read(LONGEST)
        with open(Path(source), "rb") as file:
            return file.read(LONGEST)
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}") from None


def _fetch(url: str) -> bytes:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ConfigError(f"{url}: a network file comes over http or https, or from a file")
        if parts.path in ("", "/"):
            url = url.rstrip("/") + NETWORK_PATH
        # Nobody's proxy, as for every request to a directory.
        with build_opener(ProxyHandler({})).open(url, timeout=PATIENCE) as answer:
            content: bytes = answer.read(LONGEST)
            return content
    except (URLError, OSError, ValueError) as error:
        raise ConfigError(f"{url}: {getattr(error, 'reason', error)}") from None
