"""What a mixnode is told: its command line and its `config.toml`."""

from typing import Annotated

import msgspec

from nymtw.node.config import load_config
from nymtw.node.home import NodeHome
from nymtw.node.mix_node import MixOptions, MixSection

HEADING = "A mixnode. What is given on the command line overrides this file."


def layer_number(text: str) -> int:
    """A layer, 1 to 3. `usage.Options` turns the `ValueError` into a usage error."""
    if text not in ("1", "2", "3"):
        raise ValueError("a layer is 1, 2 or 3")
    return int(text)


layer_number.coerceDoc = "must be 1, 2 or 3."  # type: ignore[attr-defined]  # what usage.Options asks for


class MixnodeSection(MixSection, frozen=True, kw_only=True):
    """`[node]` of a mixnode."""

    layer: Annotated[
        int,
        msgspec.Meta(ge=0, le=3, description="Layer, 1 to 3; 0: the thinnest at the first start."),
    ] = 0
    metrics: Annotated[
        bool, msgspec.Meta(description="Whether the directory is told every second how many packets came and went.")
    ] = True


class MixnodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mixnode's `config.toml`."""

    node: MixnodeSection


class Options(MixOptions):
    """The command line of `twistd nym-mixnode` and `nym-mixnode run`."""

    optParameters = [["layer", None, None, "Layer 1, 2 or 3; without it the thinnest one", layer_number]]
    optFlags = [["no-metrics", None, "Do not tell the directory how many packets come and go"]]


def configure(options: Options) -> tuple[NodeHome, MixnodeConfig]:
    """The home and the configuration that the command line means. Raises `ConfigError`."""
    name = options["id"] or f"mixnode-{options['port'] or 1789}"
    home = NodeHome("mixnode", name)
    home.create()
    given = {"id": name, **options.mix_given("layer")}
    if options["no-metrics"]:
        given["metrics"] = False
    return home, load_config(home.config_file, MixnodeConfig, {"node": given}, HEADING)
