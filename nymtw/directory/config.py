"""The directory's `config.toml`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from nymtw.directory.consensus.topology_store import EPOCH_SECONDS, REFRESH, default_validity
from nymtw.directory.registry import CAPACITY, PER_PREFIX, SILENCE
from nymtw.directory.retention import default_expiry
from nymtw.topology.document import Recommended
from nymtw.topology.versions import version

HEADING = "A directory of nymtw. Options on the command line come before the values here."
DEFAULT_PORT = 8080


class DirectorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [directory]."""

    id: Annotated[str, Meta(description="The name of this directory; its files are in ~/.nym/directories/ID.")]
    host: Annotated[
        str,
        Meta(description="The IP address to listen on. 0.0.0.0 is every one of this machine: open to the network."),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="The TCP port to listen on; 0 takes any free one.")] = (
        DEFAULT_PORT
    )
    public_url: Annotated[
        str,
        Meta(
            description="The URL at which others reach this directory, such as https://directory.example.org, for the "
            "network's file. Empty: the address and port on which it listens."
        ),
    ] = ""
    refresh: Annotated[float, Meta(gt=0, le=86400, description="Seconds from one signed topology to the next.")] = (
        REFRESH
    )
    expiry: Annotated[
        float,
        Meta(
            ge=0,
            le=7 * 86400,
            description="Seconds after its last heartbeat until a node leaves the signed topology, twice that if more "
            "than half of its layer is silent at once; lists show it for 5. 0 is three refreshes, and a minute at "
            "least.",
        ),
    ] = 0.0
    validity: Annotated[
        float,
        Meta(
            ge=0,
            le=366 * 86400,
            description="How many seconds a signed topology can be used if the directory is away; "
            "0 is 30 refreshes and ten minutes at least.",
        ),
    ] = 0.0
    epoch_seconds: Annotated[
        int,
        Meta(
            ge=60,
            le=366 * 86400,
            description="Seconds for which a Sphinx key is the current one. All nodes change keys together: "
            "changing this on a running network loses the packets that are under way.",
        ),
    ] = EPOCH_SECONDS
    trust_hosts: Annotated[
        bool,
        Meta(
            description="Whether a node may announce another address than the one its posts come from. "
            "Needed behind a reverse proxy and for host names; anybody can then announce anything."
        ),
    ] = False
    capacity: Annotated[int, Meta(ge=1, le=20_000, description="The most nodes that are kept.")] = CAPACITY
    per_prefix: Annotated[
        int,
        Meta(
            ge=0,
            le=20_000,
            description="The most nodes of one network prefix (/24 of IPv4, /48 of IPv6) that no allow-list names; 0: "
            "any number. Addresses that are not public do not count.",
        ),
    ] = PER_PREFIX
    minimum_client_version: Annotated[
        str,
        Meta(
            max_length=64,
            description="The oldest version of nymtw whose clients may send, such as 0.2.0; older ones say so and send "
            "nothing. Empty: any.",
        ),
    ] = ""
    unsigned_localhost: Annotated[
        bool,
        Meta(
            description="Whether this machine may post what nobody has signed, in the shapes of the first networks, to "
            "try old programs. It is shown, and never part of the signed topology."
        ),
    ] = False
    certificate: Annotated[
        str,
        Meta(
            description="PEM file of a certificate and those above it: the directory speaks HTTPS then, too. Or empty."
        ),
    ] = ""
    certificate_key: Annotated[str, Meta(description="PEM file of the certificate's private key.")] = ""
    https_port: Annotated[int, Meta(ge=0, le=65535, description="The TCP port for HTTPS; 0 takes any free one.")] = 8443
    peers: Annotated[
        list[str],
        Meta(
            max_length=11,
            description="The other directories that sign the topology together with this one, each URL=KEY: its "
            "identity key in 44 characters, or the path of its PEM file. All of them name all others, and have the "
            "same refresh, validity, epoch_seconds and recommended values.",
        ),
    ] = []
    threshold: Annotated[
        int,
        Meta(ge=0, le=12, description="How many directories must sign a topology; 0: more than half of them."),
    ] = 0
    history: Annotated[
        str,
        Meta(
            description="Where metrics are kept for a year: a file, from this directory's data folder, or the URL of a "
            "PostgreSQL database, postgresql://USER:PASSWORD@HOST/NAME; empty: history.sqlite."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a version that is none, and for times that do not go together."""
        if self.minimum_client_version:
            version(self.minimum_client_version)
        expiry, validity = self.seconds_until_expiry, self.seconds_valid
        if self.expiry and expiry < max(2 * self.refresh, SILENCE):
            raise ValueError(
                f"an expiry of {expiry:g} s is too short: it is two refreshes ({2 * self.refresh:g} s) and "
                f"{SILENCE:g} s at least, or nodes come and go with every stall"
            )
        if self.expiry and 2 * expiry > self.epoch_seconds:
            raise ValueError(
                f"an expiry of {expiry:g} s is too long: a silent node has no keys after the key epoch of "
                f"{self.epoch_seconds} s, so half of that is the most"
            )
        if validity < 2 * self.refresh:
            raise ValueError(
                f"a validity of {validity:g} s is too short: the next topology comes after a refresh of "
                f"{self.refresh:g} s, and may come late; two refreshes are the least"
            )

    @property
    def seconds_until_expiry(self) -> float:
        """`expiry`, or what 0 stands for: never more than half a key epoch."""
        return self.expiry or min(default_expiry(self.refresh), self.epoch_seconds / 2)

    @property
    def seconds_valid(self) -> float:
        """`validity`, or what 0 stands for."""
        return self.validity or default_validity(self.refresh)


class RecommendedSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Section [recommended]: what clients and nodes follow, so that they look alike."""

    loop_cover_traffic_rate: Annotated[
        float, Meta(ge=0, le=1e6, description="Loops to oneself, packets a second on average.")
    ] = 5.0
    message_sending_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Packets a second on average that carry a message if one waits, else go to a random edge as "
            "drop cover.",
        ),
    ] = 20.0
    drop_cover_traffic_rate: Annotated[
        float, Meta(ge=0, le=1e6, description="More packets of drop cover a second; 0: none.")
    ] = 0.0
    fetch_message_rate: Annotated[float, Meta(ge=0, le=1e6, description="Pulls a second from the provider.")] = 10.0
    average_packet_delay: Annotated[
        float, Meta(ge=0, le=86400, description="Seconds that a packet waits at each hop on average.")
    ] = 0.05
    fetch_slots: Annotated[int, Meta(ge=1, le=255, description="Slots in the answer to each pull.")] = 16
    mixnode_loop_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Loops of each mixnode, packets a second on average: with 14, a second in which none comes "
            "back is "
            "chance once in a million times.",
        ),
    ] = 14.0
    service_sending_rate: Annotated[
        float,
        Meta(
            ge=0,
            le=10_000,
            description="Packets a second on average that each service at a provider or an exit sends: replies if "
            "there are "
            "any, else cover that looks like them.",
        ),
    ] = 100.0
    line_wait: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="Seconds that a packet waits on average where it enters or leaves the layers of mixnodes: "
            "those lines "
            "send at a fixed rate, filled with dummies, and the shorter the wait the more of these. 0: they send "
            "what there is, "
            "and an observer of them sees who talks to whom.",
        ),
    ] = 0.015
    line_headroom: Annotated[
        float,
        Meta(ge=1, le=10, description="What those lines carry over what they are offered, as a factor, at least."),
    ] = 1.25


class DirectoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    directory: DirectorySection
    recommended: RecommendedSection = RecommendedSection()


def recommended(section: RecommendedSection) -> Recommended:
    """As it stands in the topology."""
    return Recommended(**msgspec.structs.asdict(section))
