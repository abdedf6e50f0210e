"""What a mixnode is told: its command line and its `config.toml`."""

from typing import Annotated, Final, Literal

import msgspec

from nymtw.node.engine.mix_node import MixOptions, MixSection
from nymtw.node.home import NodeHome
from nymtw.node.mixing_options import load_node_config
from nymtw.node.option_types import number, whole_number

MOST_WORKERS: Final = 64

HEADING = "A mixnode. What is given on the command line overrides this file."


def layer_number(text: str) -> int:
    """A layer, 1 to 3. `usage.Options` turns the `ValueError` into a usage error."""
    if text not in ("1", "2", "3"):
        raise ValueError("a layer is 1, 2 or 3")
    return int(text)


loop_rate = number(0, 1000)
worker_count = whole_number(1, MOST_WORKERS)


class MixnodeSection(MixSection, frozen=True, kw_only=True):
    """`[node]` of a mixnode."""

    layer: Annotated[
        int,
        msgspec.Meta(ge=0, le=3, description="Layer, 1 to 3; 0: the thinnest at the first start."),
    ] = 0
    metrics: Annotated[
        bool, msgspec.Meta(description="Whether the directory is told every second how many packets came and went.")
    ] = True
    workers: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=MOST_WORKERS,
            description="Processes that share links, cryptography and packets, one for each core that may be used; "
            "1: the node does all itself.",
        ),
    ] = 1
    loop_rate: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=1000)] | None,
        msgspec.Meta(
            description="Loops of its own, packets a second on average, up to 1000; 0: none. Not there: as many as the "
            "topology recommends."
        ),
    ] = None
    loop_window: Annotated[
        float,
        msgspec.Meta(ge=10, le=86400, description="Seconds over which it is counted how many loops do not come back."),
    ] = 600.0
    on_loop_loss: Annotated[
        Literal["warn", "slow-down", "pause"],
        msgspec.Meta(
            description="What follows where more are lost than chance allows: a line in the log alone, twice the delay "
            "for every packet, or no packet at all until loops come back."
        ),
    ] = "warn"


class MixnodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mixnode's `config.toml`."""

    node: MixnodeSection


class Options(MixOptions):
    """The command line of `twistd nym-mixnode` and `nym-mixnode run`."""

    optParameters = [
        ["layer", None, None, "Layer 1, 2 or 3; without it the thinnest one", layer_number],
        ["workers", None, None, "Processes that share the work, 2 or more; 1: none [default: 1]", worker_count],
        [
            "loop-rate",
            None,
            None,
            "Loops of its own, packets a second on average [default: from the topology]",
            loop_rate,
        ],
    ]
    optFlags = [["no-metrics", None, "Do not tell the directory how many packets come and go"]]


def configure(options: Options) -> tuple[NodeHome, MixnodeConfig]:
    """The home and the configuration that the command line means. Raises `ConfigError`."""
    name = options["id"] or f"mixnode-{options['port'] or 1789}"
    home = NodeHome("mixnode", name)
    given = {"id": name, **options.mix_given("layer", "workers", "loop-rate")}
    if options["no-metrics"]:
        given["metrics"] = False
    return home, load_node_config(home, MixnodeConfig, {"node": given}, HEADING)
