"""The command line of a node of any role. Its options depend on the mode."""

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.python import usage

from nymtw.errors import ConfigError
from nymtw.gateway import options as gateway
from nymtw.mixnode import options as mixnode
from nymtw.node.engine.mix_node import MixOptions
from nymtw.node.home import NodeHome
from nymtw.node.mixing_options import CLIENT_PORT, load_node_config
from nymtw.node.tap import port_number
from nymtw.nym_node.config import DEFAULT_MODE, DEFAULT_TAKES, HEADING, HTTP_PORT, NymNodeConfig
from nymtw.provider.options import EdgeOptions
from nymtw.provider.services.installed_plugins import find_implementations, load_options

ROLES: Final = ("mixnode", "entry-gateway", "exit-gateway")
MODES: Final = (*ROLES, "auto")


def mode_name(text: str) -> str:
    """One of `MODES`. `usage.Options` turns the `ValueError` into a usage error."""
    if text not in MODES:
        raise ValueError(f"this is one of {', '.join(MODES)}")
    return text


def role_names(text: str) -> list[str]:
    """Some of `ROLES`, separated by commas. `usage.Options` turns the `ValueError` into a usage error."""
    named = text.split(",")
    if not set(named) <= set(ROLES) or len(set(named)) != len(named):
        raise ValueError(f"this is one or more of {', '.join(ROLES)}")
    return named


_OWN: Final = ("mode", "takes", "http-host", "http-port", "moniker", "website", "security-contact")
_MIXNODE: Final = ("layer", "workers", "loop-rate")
_GATEWAY_ROWS: Final = [row for row in gateway.Options.optParameters if row[0] != "mode"]
_GATEWAY: Final = tuple(str(row[0]) for row in (*EdgeOptions.optParameters, *_GATEWAY_ROWS))
# Option -> the only modes in which it has an effect.
_MEANT_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("layer", "workers"), ("mixnode",)),
    **dict.fromkeys(("loop-rate", "no-metrics"), ("mixnode", "auto")),
    **dict.fromkeys(_GATEWAY, ("entry-gateway", "exit-gateway", "auto")),
    "takes": ("auto",),
    "isolate": ("exit-gateway", "auto"),
}
# Implementation -> the modes that run it.
_BROUGHT_BY: Final = {
    "store": "entry-gateway, exit-gateway, auto",
    "exit": "exit-gateway, and auto with exit-gateway among --takes",
}


class Options(EdgeOptions):
    """The command line of `twistd nym-node` and `nym-node run`. An option without effect in the mode is refused.

    `--mode=MODE --help` includes the options of the mode's implementations.
    """

    program = "nym-node"
    default = ("store",)

    optParameters = [
        ["mode", None, None, "mixnode, entry-gateway, exit-gateway or auto [default: mixnode]", mode_name],
        [
            "takes",
            None,
            None,
            "With auto, the possible roles: some of mixnode,entry-gateway,exit-gateway [default: the first two]",
            role_names,
        ],
        ["http-host", None, None, "IP address of the HTTP API [default: 127.0.0.1]"],
        ["http-port", None, None, "TCP port of the HTTP API; 0: no API [default: 8000]", port_number],
        ["moniker", None, None, "A name of the node, for people"],
        ["website", None, None, "Website about the node, for people"],
        ["security-contact", None, None, "Contact for security reports"],
        *mixnode.Options.optParameters,
        *_GATEWAY_ROWS,
    ]
    optFlags = [*mixnode.Options.optFlags]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As `usage.Options`. Raises `UsageError` also for an option that has no effect in this mode."""
        argv = sys.argv[1:] if options is None else list(options)
        try:
            if self.names_on(argv):
                super().parseOptions(argv)
            else:
                MixOptions.parseOptions(self, argv)
        except usage.UsageError as error:
            raise usage.UsageError(_explained(str(error), mode_and_roles(_scan(argv))["mode"])) from None

    def postOptions(self) -> None:
        """Raises `UsageError` for an option that has no effect in this mode."""
        super().postOptions()
        mode = str(mode_and_roles(self)["mode"])
        for name, modes in _MEANT_FOR.items():
            is_given = bool(self[name]) if name in ("no-metrics", "isolate") else self[name] is not None
            if is_given and mode not in modes:
                raise usage.UsageError(f"--{name} has no effect in mode {mode}: it is for {', '.join(modes)}")

    def names_on(self, argv: Sequence[str]) -> list[str]:
        """The implementations that a node of this mode runs."""
        return implementations_of(mode_and_roles(_scan(argv)))

    def check_names(self, names: Sequence[str]) -> None:
        """As `EdgeOptions`."""
        if implementations_of(mode_and_roles(self)) != list(names):
            raise usage.UsageError("write --id, --port, --mode and --takes in full")


def _explained(error: str, mode: str) -> str:
    """A better error text for an unknown option that other modes have."""
    unknown = re.search("option --([a-z-]+) not recognized", error)
    if unknown is None:
        return error
    for name, modes in _BROUGHT_BY.items():
        if {unknown[1], f"{unknown[1]}="} & set(load_options(find_implementations().choose(name))().longOpt):
            return f"--{unknown[1]} has no effect in mode {mode}: it is for {modes}"
    return error


def implementations_of(node: Mapping[str, Any]) -> list[str]:
    """The names of a node's implementations: none for a mixnode; a node that may become an exit runs the exit."""
    mode, takes = node["mode"], node["takes"]
    if mode == "mixnode":
        return []
    is_exit = mode == "exit-gateway" or (mode == "auto" and "exit-gateway" in takes)
    return list(gateway.MODES[gateway.EXIT if is_exit else gateway.ENTRY])


def mode_and_roles(given: Mapping[str, Any]) -> dict[str, Any]:
    """`mode` and `takes` from the command line, otherwise from the node's `config.toml`, otherwise the defaults.

    A file that cannot be read is ignored here; `load_config` reports the error.
    """
    found: dict[str, Any] = {"mode": DEFAULT_MODE, "takes": list(DEFAULT_TAKES)}
    try:
        kept = tomllib.loads(NodeHome("node", name_of(given)).config_file.read_text()).get("node", {})
    except (OSError, ValueError, ConfigError):
        kept = {}
    for name, default in found.items():
        value = given.get(name) if given.get(name) is not None else kept.get(name, default)
        found[name] = value if isinstance(value, type(default)) else default
    return found


def name_of(given: Mapping[str, Any]) -> str:
    """The node's id: the given one, otherwise one with its port."""
    return str(given.get("id") or f"node-{given.get('port') or 1789}")


def _scan(argv: Sequence[str]) -> dict[str, Any]:
    """The options that decide on the implementations, found before the whole command line is parsed."""
    found: dict[str, Any] = {}
    for position, argument in enumerate(argv):
        if argument == "--":
            break
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in ("id", "port", "mode", "takes"):
            value = value if equals else next(iter(argv[position + 1 : position + 2]), "")
            found[name] = value.split(",") if name == "takes" else value
    return found


def configure(options: Options) -> tuple[NodeHome, NymNodeConfig]:
    """The home and the configuration for a command line. Raises `ConfigError`."""
    name = name_of(options)
    home = NodeHome("node", name)
    mixing = options.given(*_MIXNODE)
    if options["no-metrics"]:
        mixing["metrics"] = False
    ports = {("gateway", "client_port"): CLIENT_PORT, ("node", "http_port"): HTTP_PORT}
    given = {
        "node": {"id": name, **options.mix_given(*_OWN)},
        "mixnode": mixing,
        "gateway": options.given(*_GATEWAY),
    }
    return home, load_node_config(home, NymNodeConfig, given, HEADING, ports)
