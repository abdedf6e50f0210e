"""What a provider is told: its command line, into which the options of the chosen implementation merge, and its
`config.toml`.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final, NoReturn

import msgspec

from twisted.python import usage

from nymtw.errors import PluginError
from nymtw.node.config import load_config
from nymtw.node.home import NodeHome
from nymtw.node.mix_node import MixOptions, MixSection
from nymtw.node.tap import port_number
from nymtw.provider.listing import help_text, list_text
from nymtw.provider.plugin import RESERVED, Implementations, find_implementations, load_options

HEADING = "A provider. What is given on the command line overrides this file."
DEFAULT_IMPLEMENTATION: Final = "store"


class ProviderSection(MixSection, frozen=True, kw_only=True):
    """`[node]` of a provider."""

    client_port: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="TCP port for clients, if the implementation serves any.")
    ] = 9000


class ProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider's `config.toml`."""

    node: ProviderSection


class Options(MixOptions):
    """The command line of `twistd nym-provider` and `nym-provider run`.

    The options of the implementation are part of it: `--impl=NAME --help` shows both.
    """

    optParameters = [
        ["impl", None, DEFAULT_IMPLEMENTATION, "What the provider does; 'list' shows what is installed"],
        ["client-port", None, None, "TCP port for clients [default: 9000]", port_number],
    ]

    factory: Any = None
    """The chosen `IProviderFactory`, once the command line has been parsed."""

    def opt_help_impls(self) -> NoReturn:
        """Show every implementation installed, with its options, and exit."""
        print(help_text(find_implementations()))
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`. Raises `UsageError` for an unknown, doubled or broken implementation too."""
        argv = sys.argv[1:] if options is None else list(options)
        name = implementation_named(argv)
        if self.factory is not None:
            super().parseOptions(argv)
            if self["impl"] != name:
                raise usage.UsageError(f"write --impl={self['impl']} in full, and once")
            return
        found = find_implementations()
        if name == RESERVED:
            print(list_text(found))
            raise SystemExit(0)
        try:
            merged = self._merged(found, name)
        except PluginError as error:
            raise usage.UsageError(str(error)) from None
        merged.parseOptions(argv)
        self.update(merged)
        self.factory = merged.factory
        self.getUsage = merged.getUsage  # type: ignore[method-assign]  # from now on the help is that of both

    def getUsage(self, width: int | None = None) -> str:
        """The help, in which the options of the implementation stand too: of the default one where none is chosen."""
        if self.factory is None:
            try:
                return self._merged(find_implementations(), DEFAULT_IMPLEMENTATION).getUsage(width)
            except PluginError:
                pass  # The command's own options can be told all the same.
        return super().getUsage(width)

    def _merged(self, found: Implementations, name: str) -> "Options":
        factory = found.choose(name)
        own = load_options(factory)
        check_options(name, own)
        merged: Options = type("Options", (_Merged, own, Options), {"factory": factory, "__doc__": Options.__doc__})()
        merged.parent = self.parent
        for words in ("synopsis", "longdesc"):
            if hasattr(self, words):
                setattr(merged, words, getattr(self, words))
        return merged


class _Merged(usage.Options):
    """Checks what the implementation's class checks and then what the command's does, whoever calls the next."""

    def postOptions(self) -> None:
        for base in type(self).__bases__[1:]:
            check: Any = base.postOptions  # type: ignore[attr-defined]  # each is a usage.Options
            check(self)


def implementation_named(argv: Sequence[str]) -> str:
    """What `--impl` names on this command line, the last one counting; the default without it."""
    name = DEFAULT_IMPLEMENTATION
    for position, word in enumerate(argv):
        if word == "--":
            break
        if word.startswith("--impl="):
            name = word.removeprefix("--impl=")
        elif word == "--impl" and position + 1 < len(argv):
            name = argv[position + 1]
    return name


def check_options(name: str, own: type[usage.Options]) -> None:
    """Raises `PluginError` where an implementation has an option of the command's name: one would hide the other."""
    always = set(usage.Options().longOpt)
    doubled = sorted((set(own().longOpt) & set(Options().longOpt)) - always)
    if doubled:
        options = ", ".join(f"--{option.rstrip('=')}" for option in doubled)
        raise PluginError(f"the provider {name!r} is broken: {options} is an option of nym-provider itself")


def configure(options: Options) -> tuple[NodeHome, ProviderConfig]:
    """The home and the configuration that the command line means. Raises `ConfigError`."""
    name = options["id"] or f"provider-{options['port'] or 1789}"
    home = NodeHome("provider", name)
    home.create()
    given = {"id": name, **options.mix_given("client-port")}
    return home, load_config(home.config_file, ProviderConfig, {"node": given}, HEADING)
