"""The common command line of mixnode and provider, and their common part of `[node]`."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar

import msgspec

from nymtw.node.announce.description import country, description
from nymtw.node.announce.placement import hosts
from nymtw.node.config import load_config
from nymtw.node.directories.http_directory import check_directory_url
from nymtw.node.directories.trust import as_list
from nymtw.node.engine.packet_engine import DEFAULT_MAX_DELAY
from nymtw.node.free_ports import Places, with_free_ports
from nymtw.node.home import NodeHome
from nymtw.node.networks import settled
from nymtw.node.option_types import number, whole_number
from nymtw.node.tap import NodeOptions, network_given, port_number

T = TypeVar("T", bound=msgspec.Struct)

DAY: Final = 86400
PORT: Final = 1789
CLIENT_PORT: Final = 9000
NO_PLACES: Final[Places] = MappingProxyType({})
_SHARED: Final = (
    *(
        "host",
        "port",
        "announced-host",
        "directory",
        "directory-key",
        "directory-threshold",
        "network",
        "rate",
        "max-delay",
        "drain",
        "metrics-port",
    ),
    *("description", "country", "family"),
)


def family(text: str) -> str:
    """A declared family. Raises ValueError."""
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,64}", text):
        raise ValueError("family: 1 to 64 letters, digits, dots, dashes and underscores")
    return text


family.coerceDoc = "must be 1 to 64 letters, digits, dots, dashes or underscores."  # type: ignore[attr-defined]
positive = whole_number(1, 1_000_000)
seconds = number(0.001, 86400, "seconds")


class MixOptions(NodeOptions):
    """The command line that mixnode and provider share."""

    optParameters = [
        ["announced-host", None, None, "IP address at which others reach it [default: the one of --host]"],
        ["rate", None, None, "Packets a second to be ready for: sizes filter and queue [default: 2000]", positive],
        ["max-delay", None, None, "Seconds; packets that ask for a longer delay are dropped [default: 600]", seconds],
        ["drain", None, None, "Seconds that held packets have to leave at the end [default: 5]", seconds],
        [
            "description",
            None,
            None,
            "What people read about this node in the dashboard: one line of at most 280 characters",
            description,
        ],
        ["country", None, None, "The country it stands in: two letters of ISO 3166-1, such as CH", country],
        ["family", None, None, "Name that all nodes of this operator say: no route has two of them", family],
        ["metrics-port", None, None, "Port on 127.0.0.1 for Prometheus; 0: none [default: 0]", port_number],
    ]

    def mix_given(self, *names: str) -> dict[str, Any]:
        """The part of `[node]` that stands on the command line; `names` are the role's own options."""
        return network_given(self.given(*_SHARED, *names), "directory", "directory_key")


class MixSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[node]`: the values of every node that mixes."""

    id: Annotated[str, msgspec.Meta(description="Name of this node; its files are in the folder of that name.")]
    host: Annotated[
        str, msgspec.Meta(description="IP address to listen on and to be reached at; empty: the first of this machine.")
    ] = ""
    announced_host: Annotated[
        str,
        msgspec.Meta(
            description="IP address at which others reach this node, where it is not host; empty: host, or the first "
            "of this machine where host is 0.0.0.0 or ::. The directory believes only the address that posts come from."
        ),
    ] = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535, description="TCP port for other nodes.")] = PORT
    network: Annotated[
        str,
        msgspec.Meta(
            description="Name of the network, as 'nymtw network list' shows it; empty: the one in use. What the three "
            "values below say takes the place of what its file says."
        ),
    ] = ""
    directory: Annotated[
        str | list[str],
        msgspec.Meta(description="URL of the directory, or a list of those of several; empty: those of the network."),
    ] = ""
    directory_key: Annotated[
        str | list[str],
        msgspec.Meta(
            description="The directory's identity key: 44 characters, or the path of its PEM file; or a list of those "
            "of all directories; empty: those of the network."
        ),
    ] = ""
    directory_threshold: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="How many directories must have signed the topology; 0: as the network says, or more than "
            "half of them.",
        ),
    ] = 0
    rate: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=1_000_000,
            description="Packets a second to be ready for. The replay filter of a key grows to hold those of "
            "an epoch, a day at most (3 to 4 bytes for each that comes; three keys are in use), the delay queue half a "
            "minute.",
        ),
    ] = 2000
    max_delay: Annotated[
        float, msgspec.Meta(gt=0, le=86400, description="Seconds; a packet that asks for a longer delay is dropped.")
    ] = DEFAULT_MAX_DELAY
    metrics_port: Annotated[
        int,
        msgspec.Meta(ge=0, le=65535, description="TCP port on 127.0.0.1 where Prometheus finds figures; 0: none."),
    ] = 0
    drain: Annotated[
        float,
        msgspec.Meta(ge=0, le=3600, description="Seconds that held packets have to leave when the node is stopped."),
    ] = 5.0
    description: Annotated[
        str, msgspec.Meta(description="What people read about this node in the dashboard; one line, or empty.")
    ] = ""
    country: Annotated[
        str, msgspec.Meta(description="The country it stands in: two letters of ISO 3166-1, such as CH; or empty.")
    ] = ""

    family: Annotated[
        str,
        msgspec.Meta(
            description="A name that all nodes of this operator have here, 1 to 64 letters, digits, dots, dashes: no "
            "route has two of them. Empty: this node is the only one."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raises `ValueError` for unprintable text."""
        if self.family:
            family(self.family)
        try:
            description(self.description)
            country(self.country)
        except ValueError as error:
            raise ValueError(f"description and country: {error}") from None


def load_node_config(
    home: NodeHome,
    schema: type[T],
    given: Mapping[str, Mapping[str, Any]],
    heading: str,
    ports: Places = NO_PLACES,
) -> T:
    """The configuration of a node in `home`, which is created.

    A first start keeps the name of the network in use, and another port for each usual one that is taken: `port`, and
    those in `ports`.

    Raises `ConfigError`: before anything is written where there is no network, and for what cannot be used.
    """
    section = given["node"]
    for url in as_list(section.get("directory", "")):
        if url:
            check_directory_url(url)
    hosts(section.get("host", ""), section.get("announced_host", ""))
    if not home.config_file.exists():
        given = {**given, "node": settled(dict(section), "directory_key")}
        given = with_free_ports(given, {("node", "port"): PORT, **ports}, section.get("host", ""))
    home.create()
    return load_config(home.config_file, schema, given, heading)
