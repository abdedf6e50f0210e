"""A provider's command line, including the options of the chosen implementations, and its `config.toml`."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NoReturn

import msgspec

from twisted.python import usage

from nymtw.errors import PluginError
from nymtw.node.engine.mix_node import MixOptions, MixSection, positive
from nymtw.node.home import NodeHome
from nymtw.node.mixing_options import CLIENT_PORT, load_node_config
from nymtw.node.option_types import number
from nymtw.node.tap import port_number
from nymtw.provider.services.installed_plugins import RESERVED, Implementations, find_implementations, load_options
from nymtw.provider.services.plugin_texts import help_text, list_text

HEADING = "A provider. What is given on the command line overrides this file."
DEFAULT_IMPLEMENTATION: Final = "store"
EDGE_GIVEN: Final = ("client-port", "stream-rate", "client-rate", "registrations", "registrations-per-address")
_MOST: Final = 10_000.0

rate = number(0, _MOST)


class ProviderSection(MixSection, frozen=True, kw_only=True):
    """`[node]` of a provider, and most of a gateway's."""

    client_port: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="TCP port for clients, if the implementation serves any.")
    ] = CLIENT_PORT
    stream_rate: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None,
        msgspec.Meta(
            description="Packets a second that each service sends, replies or cover; never more than the topology "
            "recommends, which is what the lines have room for. Not there: as many as that."
        ),
    ] = None
    client_rate: Annotated[
        float | None,
        msgspec.Meta(
            description="Packets a second that a client may send, 100 at once; more are dropped. Not set: the rate "
            "from the topology, and a tenth more."
        ),
    ] = None
    registrations: Annotated[
        int, msgspec.Meta(ge=1, le=1_000_000, description="New clients in an hour, from all addresses together.")
    ] = 2000
    registrations_per_address: Annotated[
        int,
        msgspec.Meta(ge=1, le=1_000_000, description="New clients in an hour from one address (an IPv6 /64)."),
    ] = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("client_rate", self.client_rate)


def check_rate(name: str, value: float | None) -> None:
    """Raises ValueError for what is no rate of packets."""
    if value is not None and not 0 <= value <= _MOST:
        raise ValueError(f"{name}: a number from 0 to 10000")


class ProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider's `config.toml`."""

    node: ProviderSection


class EdgeOptions(MixOptions):
    """The command line of a node with implementations. It includes their options; `--help` shows all of them."""

    program: ClassVar[str]
    """The command's name."""
    default: ClassVar[tuple[str, ...]]
    """The implementations to use if the command line names none."""

    optParameters = [
        ["client-port", None, None, "TCP port for clients [default: 9000]", port_number],
        ["stream-rate", None, None, "Maximum of packets a second of each service [default: topology's]", positive],
        ["client-rate", None, None, "Packets a second from each client [default: from the topology]", rate],
        ["registrations", None, None, "New clients in an hour [default: 2000]", positive],
        ["registrations-per-address", None, None, "New clients in an hour from one address [default: 200]", positive],
    ]

    optFlags = [
        ["isolate", None, "Run each service in a process of its own, out of reach of the node's keys"],
    ]

    factories: tuple[Any, ...] = ()
    """The chosen `IProviderFactory`s, once the command line has been parsed."""

    def names_on(self, argv: Sequence[str]) -> list[str]:
        """The implementations that a command line asks for, found before it is parsed."""
        raise NotImplementedError

    def check_names(self, names: Sequence[str]) -> None:
        """Raises `UsageError` if the parsed command line asks for others, because an option was abbreviated."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`. Raises `UsageError` also for an unknown, doubled or broken implementation."""
        argv = sys.argv[1:] if options is None else list(options)
        names = self.names_on(argv)
        if self.factories:
            super().parseOptions(argv)
            self.check_names(names)
            return
        found = find_implementations()
        if RESERVED in names:
            print(list_text(found))
            raise SystemExit(0)
        try:
            merged = self._merged(found, names)
        except PluginError as error:
            raise usage.UsageError(str(error)) from None
        merged.parseOptions(argv)
        self.update(merged)
        self.factories = merged.factories
        self.getUsage = merged.getUsage  # type: ignore[method-assign]  # the help shows all options from now on

    def getUsage(self, width: int | None = None) -> str:
        """The help, with the options of the chosen or default implementations."""
        if not self.factories:
            try:
                return self._merged(find_implementations(), self.default).getUsage(width)
            except PluginError:
                pass  # The command's own options can be shown all the same.
        return super().getUsage(width)

    def _merged(self, found: Implementations, names: Sequence[str]) -> "EdgeOptions":
        factories = tuple(found.choose(name) for name in names)
        own = {name: load_options(factory) for name, factory in zip(names, factories, strict=True)}
        for name, options in own.items():
            check_options(name, options, type(self))
        check_distinct(names, own)
        bases: tuple[Any, ...] = (_Merged, *dict.fromkeys(own.values()), type(self))
        merged: EdgeOptions = type("Options", bases, {"factories": factories, "__doc__": type(self).__doc__})()
        merged.parent = self.parent
        for attribute in ("synopsis", "longdesc"):
            if hasattr(self, attribute):
                setattr(merged, attribute, getattr(self, attribute))
        return merged


class Options(EdgeOptions):
    """The command line of `twistd nym-provider` and `nym-provider run`.

    The options of the implementations are part of it: `--impl=NAME --help` shows both.
    """

    program = "nym-provider"
    default = (DEFAULT_IMPLEMENTATION,)

    def opt_impl(self, name: str) -> None:
        """Implementation to run [default: store]. May be repeated; 'list' shows what is installed"""
        self._named.append(name)

    opt_impl.coerceDoc = None  # type: ignore[attr-defined]

    def opt_help_impls(self) -> NoReturn:
        """Show all installed implementations with their options, and exit."""
        print(help_text(find_implementations()))
        raise SystemExit(0)

    def names_on(self, argv: Sequence[str]) -> list[str]:
        """The names behind `--impl`."""
        self._named: list[str] = []
        return implementations_named(argv)

    def check_names(self, names: Sequence[str]) -> None:
        """As `EdgeOptions`."""
        if (self._named or [DEFAULT_IMPLEMENTATION]) != names:
            raise usage.UsageError(f"write --impl={self._named[-1]} in full")


class _Merged(usage.Options):
    """Runs the checks of all base classes, even if one of them does not call the next."""

    def postOptions(self) -> None:
        for base in type(self).__bases__[1:]:
            check: Any = base.postOptions  # type: ignore[attr-defined]  # each is a usage.Options
            check(self)


def implementations_named(argv: Sequence[str]) -> list[str]:
    """The names behind `--impl` on this command line, in order; the default if there are none."""
    names = []
    for position, word in enumerate(argv):
        if word == "--":
            break
        if word.startswith("--impl="):
            names.append(word.removeprefix("--impl="))
        elif word == "--impl" and position + 1 < len(argv):
            names.append(argv[position + 1])
    return names or [DEFAULT_IMPLEMENTATION]


def check_options(name: str, own: type[usage.Options], command: type[EdgeOptions] = Options) -> None:
    """Raises `PluginError` if an implementation and the command have an option of the same name."""
    always = set(usage.Options().longOpt)
    doubled = sorted((set(own().longOpt) & set(command().longOpt)) - always)
    if doubled:
        options = ", ".join(f"--{option.rstrip('=')}" for option in doubled)
        raise PluginError(f"the provider {name!r} is broken: {options} is an option of {command.program} itself")


def check_distinct(names: Sequence[str], own: Mapping[str, type[usage.Options]]) -> None:
    """Raises `PluginError` if an implementation is named twice, or two have an option of the same name."""
    if len(set(names)) != len(names):
        raise PluginError(f"--impl={next(name for name in names if names.count(name) > 1)} is given twice")
    always = set(usage.Options().longOpt)
    owner: dict[str, str] = {}
    for name, options in own.items():
        for option in sorted(set(options().longOpt) - always):
            other = owner.setdefault(option, name)
            if other != name:
                raise PluginError(
                    f"the providers {other!r} and {name!r} both have an option --{option.rstrip('=')}: "
                    "run them in separate nodes"
                )


def configure(options: Options) -> tuple[NodeHome, ProviderConfig]:
    """The home and the configuration for a command line. Raises `ConfigError`."""
    name = options["id"] or f"provider-{options['port'] or 1789}"
    home = NodeHome("provider", name)
    given = {"id": name, **options.mix_given(*EDGE_GIVEN)}
    return home, load_node_config(
        home, ProviderConfig, {"node": given}, HEADING, {("node", "client_port"): CLIENT_PORT}
    )
