"""A gateway's command line, including the options of its mode's implementations, and its `config.toml`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from twisted.python import usage

from nymtw.node.home import NodeHome
from nymtw.node.mixing_options import CLIENT_PORT, load_node_config
from nymtw.provider.options import EDGE_GIVEN, EdgeOptions, ProviderConfig, ProviderSection, check_rate, rate

HEADING: Final = "A gateway. What is given on the command line overrides this file."
ENTRY: Final = "entry"
EXIT: Final = "exit"
# The implementations of each mode.
MODES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({ENTRY: ("store",), EXIT: ("store", "exit")})


class GatewaySection(ProviderSection, frozen=True, kw_only=True):
    """`[node]` of a gateway."""

    downlink_rate: Annotated[
        float | None,
        msgspec.Meta(
            description="Slots (2,424 bytes) a second pushed to each client, with or without mail. 0: mail at once and "
            "no other slots; an observer of a client's line then sees when it receives. Not set: enough for the rates "
            "that the topology recommends; with the usual rates 70 slots, 170 KB a second for each client."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("downlink_rate", self.downlink_rate)


class GatewayConfig(ProviderConfig, frozen=True, kw_only=True):
    """A gateway's `config.toml`."""

    node: GatewaySection


class Options(EdgeOptions):
    """The command line of `twistd nym-gateway` and `nym-gateway run`.

    It includes the options of the mode's implementations: `--mode=exit --help` shows those of an exit.
    """

    program = "nym-gateway"
    default = MODES[ENTRY]

    optParameters = [
        ["mode", None, ENTRY, "entry: serves clients; exit: also opens connections to the internet for them"],
        ["downlink-rate", None, None, "Slots a second to each client [default: from the topology]; 0: at once", rate],
    ]

    def names_on(self, argv: Sequence[str]) -> list[str]:
        """The implementations of the mode. Raises `UsageError` for an unknown mode."""
        return list(implementations_of(mode_on(argv)))

    def check_names(self, names: Sequence[str]) -> None:
        """As `EdgeOptions`."""
        if list(implementations_of(self["mode"])) != names:
            raise usage.UsageError(f"write --mode={self['mode']} in full")


def implementations_of(mode: str) -> tuple[str, ...]:
    """The names of the implementations of `mode`. Raises `UsageError`."""
    if mode not in MODES:
        raise usage.UsageError(f"--mode is one of {', '.join(MODES)}, not {mode!r:.40}")
    return MODES[mode]


def mode_on(argv: Sequence[str]) -> str:
    """The value of the last `--mode` on this command line."""
    mode = ENTRY
    for position, word in enumerate(argv):
        if word == "--":
            break
        if word.startswith("--mode="):
            mode = word.removeprefix("--mode=")
        elif word == "--mode" and position + 1 < len(argv):
            mode = argv[position + 1]
    return mode


def configure(options: Options) -> tuple[NodeHome, GatewayConfig]:
    """The home and the configuration for a command line. Raises `ConfigError`."""
    name = options["id"] or f"gateway-{options['port'] or 1789}"
    home = NodeHome("gateway", name)
    given = {"id": name, **options.mix_given(*EDGE_GIVEN, "downlink-rate")}
    ports = {("node", "client_port"): CLIENT_PORT}
    return home, load_node_config(home, GatewayConfig, {"node": given}, HEADING, ports)
