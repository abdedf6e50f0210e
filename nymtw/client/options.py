"""The command-line options of a client, and its home and configuration from them."""

import secrets
import string
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from twisted.python import usage

from nymtw.client.config import HEADING, ClientConfig, check, in_home
from nymtw.client.keys import load_or_create_keys
from nymtw.encoding import key_text, parse_key_text
from nymtw.errors import ConfigError, EncodingError
from nymtw.node.config import load_config, read_config, write_config
from nymtw.node.home import NodeHome
from nymtw.node.keys import read_directory_key
from nymtw.node.networks import LOCAL_DIRECTORY, Networks
from nymtw.node.option_types import CommandOptions
from nymtw.node.tap import (
    DIRECTORY,
    DIRECTORY_KEY,
    DIRECTORY_THRESHOLD,
    NETWORK,
    check_one_network,
    network_given,
    one_or_list,
    port_number,
    several,
)

DEFAULT_PORT: Final = 1863
DEFAULT_ID: Final = "client"
SOCKETS: Final = ("websocket", "tcp", "none")


class ClientOptions(CommandOptions):
    """The options of every command of a client: its id and the network."""

    optParameters: ClassVar[list[Any]] = [
        ["id", None, None, "Name of this client; its files are in ~/.nym/clients/ID"],
        ["provider", None, None, "Identity of the provider that keeps this client's messages"],
        ["gateway", None, None, "Identity of the gateway that keeps them, and sends them as they come"],
        NETWORK,
        DIRECTORY_THRESHOLD,
    ]
    opt_directory = several("directory", DIRECTORY)
    opt_directory_key = several("directory-key", DIRECTORY_KEY)
    socket = "none"

    def postOptions(self) -> None:
        """Check what can be checked before a file is touched."""
        check_one_network(self)
        if self["provider"] is not None and self["gateway"] is not None:
            raise usage.UsageError("--provider and --gateway: a client's messages are kept in one place")
        for option in ("provider", "gateway"):
            try:
                if self[option] is not None:
                    parse_key_text(self[option])
            except EncodingError as error:
                raise usage.UsageError(f"--{option}: {error}") from None

    def given(self) -> dict[str, Any]:
        """The values on the command line, by their names in `config.toml`."""
        names = {
            "network": "network",
            "directory-threshold": "directory_threshold",
            "provider": "provider_id",
            "gateway": "gateway_id",
        }
        given = {key: self[option] for option, key in names.items() if self[option] is not None}
        # One takes the place of the other, whichever the file names.
        if "gateway_id" in given:
            given["provider_id"] = ""
        elif "provider_id" in given:
            given["gateway_id"] = ""
        if self.get("directory") is not None:
            given["directory_server_topology"] = one_or_list(self["directory"])
        if self.get("directory-key") is not None:
            keys = [key_text(read_directory_key(key)) for key in self["directory-key"]]
            given["directory_identity_key"] = one_or_list(keys)
        return network_given(given, "directory_server_topology", "directory_identity_key")


class InitOptions(ClientOptions):
    """`nym-client init`."""

    optFlags: ClassVar[list[Any]] = [["local", None, f"Use the directory of this machine, {LOCAL_DIRECTORY}"]]

    def given(self) -> dict[str, Any]:
        """As for every command, and the local directory where it is asked for."""
        given = super().given()
        if self["local"]:
            given.setdefault("directory_server_topology", LOCAL_DIRECTORY)
        return given


class RunOptions(ClientOptions):
    """`nym-client run`."""

    optParameters: ClassVar[list[Any]] = [["customCfg", None, None, "A configuration file in another place"]]


class Options(RunOptions):
    """`twistd nym-client` and `nym-client socket`."""

    optParameters: ClassVar[list[Any]] = [
        ["socket", None, "websocket", "What applications connect to on 127.0.0.1: websocket, tcp, or none"],
        ["port", None, DEFAULT_PORT, "Port of the socket", port_number],
        ["recipient", None, None, "Send what applications push, as it is, to this address"],
    ]
    optFlags: ClassVar[list[Any]] = [
        ["open-socket", None, "Let every program and every user of this machine use the socket, without its token"]
    ]

    def postOptions(self) -> None:
        """Check the socket's kind."""
        super().postOptions()
        if self["socket"] not in SOCKETS:
            raise usage.UsageError(f"--socket: {self['socket']!r:.40} is not one of {', '.join(SOCKETS)}")


def random_id() -> str:
    """Eight random letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def initialise(options: InitOptions, name: str, random: Random) -> tuple[NodeHome, ClientConfig]:
    """Write keys and configuration of a new client, with the name of the network in use, if any is.

    The configuration comes last: what was interrupted before can be done again. Raises `ConfigError`, also where there
    is one already, and `KeyFileError`.
    """
    home = NodeHome("client", name)
    if home.config_file.exists():
        raise ConfigError(f"{home.config_file}: there is a client called {name!r} already")
    given = options.given()
    if not given.get("directory_identity_key"):
        given["network"] = given.get("network") or Networks().in_use()
        if given["network"]:
            Networks().load(given["network"])
    config = msgspec.convert({"client": {"id": name, **given}}, ClientConfig)
    check(config)
    home.create()
    section = config.client
    load_or_create_keys(home, in_home(home, section.priv_key_file), in_home(home, section.pub_key_file), random)
    write_config(home.config_file, config, HEADING)
    return home, config


def configure(options: ClientOptions) -> tuple[NodeHome, ClientConfig]:
    """The home and the configuration that a command line means; both are made where there is no such client.

    Raises `ConfigError`.
    """
    custom = options.get("customCfg")
    given = options.given()
    if custom is not None:
        config = read_config(Path(custom), ClientConfig)
        config = msgspec.structs.replace(config, client=msgspec.structs.replace(config.client, **given))
        base = config.client.nym_home_directory
        home = NodeHome("client", options["id"] or config.client.id, Path(base).expanduser() if base else None)
        home.create()
    else:
        name = options["id"] or DEFAULT_ID
        home = NodeHome("client", name)
        if not home.config_file.exists() and not (given.get("directory_identity_key") or given.get("network")):
            raise ConfigError(f"there is no client called {name!r}: make it with 'nym-client init --id {name}'")
        home.create()
        config = load_config(home.config_file, ClientConfig, {"client": {"id": name, **given}}, HEADING)
    check(config)
    return home, config
