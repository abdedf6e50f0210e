"""A client's `config.toml`, and the files it names. Relative paths start at the client's home."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nymtw.encoding import parse_key_text
from nymtw.errors import ConfigError, EncodingError
from nymtw.node.directories.http_directory import check_directory_url
from nymtw.node.directories.trust import as_list
from nymtw.node.home import NodeHome
from nymtw.node.networks import Network, chosen_network
from nymtw.topology.document import Recommended

MOST_RATE = 10_000.0  # events per second
HEADING = "The configuration of a nymtw client. What stands here can be left out, but for the id."

Rate = Annotated[float, Meta(le=MOST_RATE)]


def _about(text: str) -> Meta:
    return Meta(description=text)


class ClientSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[client]`."""

    id: Annotated[str, _about("The client's name on this machine.")]
    network: Annotated[
        str,
        _about(
            "The name of the network, as 'nymtw network list' shows it; empty: the one in use. What the three values "
            "below say takes the place of what its file says."
        ),
    ] = ""
    directory_server_topology: Annotated[
        str | list[str],
        _about(
            "The URL of the directory, from which the client learns the topology, or a list of those of several; "
            "empty: those of the network."
        ),
    ] = ""
    directory_identity_key: Annotated[
        str | list[str],
        _about(
            "The directory's identity key, 44 characters of base64, or the path of its PEM file: a topology that is "
            "not signed with it is refused. Or a list of those of all directories. Empty: those of the network."
        ),
    ] = ""
    directory_threshold: Annotated[
        int,
        Meta(
            ge=0,
            description="How many directories must have signed the topology; 0: as the network says, or more than half "
            "of them.",
        ),
    ] = 0
    priv_key_file: Annotated[str, _about("The key with which messages to this client are opened.")] = (
        "config/private_key.pem"
    )
    pub_key_file: Annotated[str, _about("Its public half, which is part of the address.")] = "config/public_key.pem"
    provider_id: Annotated[
        str,
        _about(
            "The identity of the provider that keeps this client's messages. With neither a provider nor a gateway "
            "here, a provider is picked at random at the first start, and kept."
        ),
    ] = ""
    gateway_id: Annotated[
        str,
        _about(
            "The identity of the gateway that keeps this client's messages and sends them as they come: one or the "
            "other."
        ),
    ] = ""
    mixapps_directory: Annotated[str, _about("Where applications keep their files.")] = "mixapps"
    nym_home_directory: Annotated[
        str,
        _about(
            "The folder of all homes, for a configuration outside a home (--customCfg). With none here, "
            "NYMTW_HOME or ~/.nym."
        ),
    ] = ""
    on_loop_loss: Annotated[
        Literal["warn", "pause", "change-edge"],
        _about(
            "What follows where more of this client's loops are late or lost than chance allows. Status and log say "
            "it in any "
            "case: warn. pause: no message leaves until they come back, cover does. change-edge: where most of them "
            "are late "
            "for a minute and neither a provider nor a gateway is set here, another one is chosen: the client has "
            "another "
            "address then, and leaves behind what waits at the old one."
        ),
    ] = "warn"
    listed: Annotated[
        bool,
        _about(
            "Whether this client's address is published with the topology, so that others find it. Then everybody "
            "knows that it exists, and at which provider."
        ),
    ] = False


class LoggingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[logging]`."""

    disable: Annotated[bool, _about("Whether nothing is logged.")] = False
    file: Annotated[str, _about("The file that the log goes to. With none here, standard output.")] = ""
    level: Annotated[
        Literal["debug", "info", "warn", "error", "critical"], _about("The least important level that is logged.")
    ] = "info"


class DebugSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[debug]`. A rate is the parameter of an exponential, in events per second."""

    loop_cover_traffic_rate: Annotated[
        Rate,
        _about(
            "Rates are in events per second: the gaps are drawn from an exponential distribution with this parameter. "
            "0 is what the directory recommends, and negative turns the stream off. A client with rates of its own can "
            "be told from others.\nPackets to oneself."
        ),
    ] = 0.0
    fetch_message_rate: Annotated[Rate, _about("Requests to the provider for what has arrived.")] = 0.0
    message_sending_rate: Annotated[
        Rate,
        _about("Packets with what there is to send, or to a random edge, which discards them."),
    ] = 0.0
    drop_cover_traffic_rate: Annotated[Rate, _about("More packets to random edges, which discard them.")] = 0.0
    average_packet_delay: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="The mean delay at each mixnode, in seconds; 0 is what the directory recommends."
        ),
    ] = 0.0
    rate_compliant_cover_messages_disabled: Annotated[
        bool,
        _about(
            "Whether the sending stream is silent when there is nothing to send. An observer then sees when you send."
        ),
    ] = False
    delay_strategy: Annotated[
        str,
        _about(
            'How the delay at each mixnode is drawn: "exponential", which is the default, or "package.module:factory" '
            "of an IDelayStrategy; the factory is given the mean in seconds."
        ),
    ] = ""
    route_strategy: Annotated[
        str,
        _about(
            'Which mixnodes a packet passes: "uniform", which is the default, or "package.module:factory" of an '
            "IRouteStrategy; the factory is given nothing."
        ),
    ] = ""


class ClientConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    client: ClientSection
    logging: LoggingSection = msgspec.field(default_factory=LoggingSection)
    debug: DebugSection = msgspec.field(default_factory=DebugSection)


class Rates(msgspec.Struct, frozen=True):
    """What a client goes by: events per second (negative: off), and the mean delay at a mixnode in seconds."""

    sending: float
    loops: float
    drops: float
    fetching: float
    mean_delay: float


def rates(debug: DebugSection, recommended: Recommended) -> Rates:
    """The configured values, and the recommended ones where none is configured."""
    return Rates(
        sending=debug.message_sending_rate or recommended.message_sending_rate,
        loops=debug.loop_cover_traffic_rate or recommended.loop_cover_traffic_rate,
        drops=debug.drop_cover_traffic_rate or recommended.drop_cover_traffic_rate,
        fetching=debug.fetch_message_rate or recommended.fetch_message_rate,
        mean_delay=debug.average_packet_delay or recommended.average_packet_delay,
    )


def edge(config: ClientConfig) -> bytes | None:
    """The identity (32 bytes) of the provider or gateway that is configured, if any. Raises `ConfigError`."""
    for name in ("provider_id", "gateway_id"):
        text = getattr(config.client, name)
        if text:
            try:
                return parse_key_text(text)
            except EncodingError as error:
                raise ConfigError(f"{name}: {error}") from None
    return None


def differing(debug: DebugSection) -> list[str]:
    """What is configured otherwise than recommended, for a warning: it tells this client from others."""
    return [name for name, value in msgspec.to_builtins(debug).items() if value]


def network_of(config: ClientConfig) -> Network:
    """The network that the configuration means, or the one in use. Raises `ConfigError`, `KeyFileError`."""
    section = config.client
    return chosen_network(
        section.directory_server_topology,
        section.directory_identity_key,
        section.directory_threshold,
        section.network,
        Path(section.nym_home_directory).expanduser() if section.nym_home_directory else None,
    )


def in_home(home: NodeHome, path: str) -> Path:
    """A path out of the configuration. Raises `ConfigError` for an empty one."""
    if not path:
        raise ConfigError(f"{home.config_file}: a path is empty")
    return home.path / path


def check(config: ClientConfig) -> None:
    """Raises `ConfigError` for what no limit on a single value can tell."""
    if config.client.provider_id and config.client.gateway_id:
        raise ConfigError("provider_id and gateway_id are both set, and a client's messages are kept in one place")
    edge(config)
    for url in as_list(config.client.directory_server_topology):
        if url:
            check_directory_url(url)
    values: dict[str, Any] = msgspec.to_builtins(config.debug)
    for name, value in values.items():
        if isinstance(value, float) and value != value:
            raise ConfigError(f"{name} is not a number")
