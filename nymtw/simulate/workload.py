"""What happens in a trial: a strict TOML file, every value of which has a default."""

from math import ceil
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from nymtw.directory.config import RecommendedSection
from nymtw.directory.profiles import PROFILES
from nymtw.errors import ConfigError
from nymtw.message.envelope import BLOCK_LENGTH
from nymtw.message.fragments import FRAGMENT_CAPACITY
from nymtw.node.config import read_config

_DEFAULT: Final = RecommendedSection()
_LONGEST: Final = 86400.0  # seconds

Rate = Annotated[float, Meta(ge=0, le=10_000)]
Seconds = Annotated[float, Meta(ge=0, le=_LONGEST)]


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[network]`: what its directory recommends. Rates in packets a second, times in seconds.

    `line_wait` is what a packet waits for a slot of a padded line on average; 0: lines send what there is.
    `service_rate` is what a service at each edge sends, replies or cover; 0: replies alone.
    """

    sending_rate: Rate = _DEFAULT.message_sending_rate
    loop_rate: Rate = _DEFAULT.loop_cover_traffic_rate
    mean_delay: Annotated[float, Meta(ge=0, le=3600)] = _DEFAULT.average_packet_delay
    latency: Annotated[float, Meta(ge=0, le=10)] = 0.001
    line_wait: Annotated[float, Meta(ge=0, le=10)] = 0.0
    line_headroom: Annotated[float, Meta(ge=1, le=10)] = 1.25
    service_rate: Rate = 0.0


class MessageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[message]`: one in each trial, from a random client to a random one at another edge.

    It is sent after `before` idle seconds, for `seconds`: as many packets as the sending stream has slots then, one at
    least. The network goes on for `after` seconds. `kind`: a message; one whose recipient is offline and has no
    streams; or a download: a service at another edge sends replies at `rate` a second, and the client the blocks for
    them.
    """

    seconds: Seconds = 34.0
    before: Seconds = 34.0
    after: Seconds = 2.0
    kind: Literal["message", "offline", "download"] = "message"
    rate: Annotated[float, Meta(gt=0, le=10_000)] = 100.0


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    network: NetworkSection = NetworkSection()
    message: MessageSection = MessageSection()

    @property
    def packets(self) -> int:
        """How many real packets the sender's client sends."""
        if self.message.kind == "download":
            return ceil(self.replies * BLOCK_LENGTH / FRAGMENT_CAPACITY)
        return max(1, round(self.network.sending_rate * self.message.seconds))

    @property
    def replies(self) -> int:
        """How many packets a service sends in a download."""
        return max(1, round(self.message.rate * self.message.seconds))

    @property
    def share(self) -> float:
        """Of all packets that the sender's client sends meanwhile, those that are real."""
        total = self.network.sending_rate + self.network.loop_rate
        return min(1.0, self.packets / (total * self.window)) if total else 1.0

    @property
    def window(self) -> float:
        """Seconds that the attacker looks at: while the message is sent, and one slot at least."""
        rate = max(self.network.sending_rate, 1e-3)
        return max(self.message.seconds, 1 / rate)


def read_workload(name: str | None) -> Workload:
    """The workload in the file `name`; None is one of defaults. Raises `ConfigError`."""
    workload = Workload() if name is None else read_config(Path(name), Workload)
    if not workload.network.sending_rate:
        raise ConfigError("a message needs a sending_rate that is not 0")
    return workload


def in_profile(workload: Workload, profile: str) -> Workload:
    """The same message in a network whose directory recommends this profile, padded lines included."""
    told = msgspec.structs.replace(_DEFAULT, **PROFILES[profile])
    network = NetworkSection(
        sending_rate=told.message_sending_rate,
        loop_rate=told.loop_cover_traffic_rate,
        mean_delay=told.average_packet_delay,
        line_wait=told.line_wait,
        line_headroom=told.line_headroom,
        latency=workload.network.latency,
        service_rate=workload.network.service_rate,
    )
    return msgspec.structs.replace(workload, network=network)
