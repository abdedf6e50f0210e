"""The `config.toml` of a node of any role: a section for all roles, and a section for each role."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_type_hints

import msgspec

from nymtw.gateway.options import GatewayConfig, GatewaySection
from nymtw.mixnode.options import MixnodeConfig, MixnodeSection
from nymtw.node.engine.mix_node import MixSection

HEADING: Final = "A node. What is given on the command line overrides this file."
DEFAULT_MODE: Final = "mixnode"
DEFAULT_TAKES: Final = ("mixnode", "entry-gateway")
HTTP_PORT: Final = 8000

_SelfDescription = msgspec.Meta(max_length=280, description="For people, at /api/v1/description; may be empty.")


class NodeSection(MixSection, frozen=True, kw_only=True):
    """`[node]`: the values of all roles, the HTTP API, and the operator's description of the node."""

    mode: Annotated[
        Literal["mixnode", "entry-gateway", "exit-gateway", "auto"],
        msgspec.Meta(description="Role of the node. auto: the role that the directory assigns in each key epoch."),
    ] = DEFAULT_MODE
    takes: Annotated[
        list[Literal["mixnode", "entry-gateway", "exit-gateway"]],
        msgspec.Meta(
            min_length=1,
            max_length=3,
            description="With mode auto, the roles that the directory may assign. An exit connects to the internet "
            "from this machine's address: add exit-gateway only if you want that.",
        ),
    ] = msgspec.field(default_factory=lambda: list(DEFAULT_TAKES))
    http_host: Annotated[
        str,
        msgspec.Meta(
            description="IP address of the HTTP API. 127.0.0.1 is for this machine only. The API holds no secrets, but "
            "everyone who can reach it can also put load on it."
        ),
    ] = "127.0.0.1"
    http_port: Annotated[int, msgspec.Meta(ge=0, le=65535, description="TCP port of the HTTP API; 0: no API.")] = (
        HTTP_PORT
    )
    moniker: Annotated[str, _SelfDescription] = ""
    website: Annotated[str, _SelfDescription] = ""
    security_contact: Annotated[str, _SelfDescription] = ""


def fields_of(section: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a section by name, in the form for `msgspec.defstruct`."""
    hints = get_type_hints(section, include_extras=True)
    return {
        field.name: (field.name, hints[field.name], *(() if field.default is msgspec.NODEFAULT else (field.default,)))
        for field in msgspec.structs.fields(section)
    }


def _section(name: str, fields: Mapping[str, Any]) -> Any:
    return msgspec.defstruct(name, list(fields.values()), frozen=True, kw_only=True, forbid_unknown_fields=True)


_EVERY: Final = fields_of(MixSection)
_OF_MIXNODE: Final = {name: row for name, row in fields_of(MixnodeSection).items() if name not in _EVERY}
_OF_GATEWAY: Final = {name: row for name, row in fields_of(GatewaySection).items() if name not in _EVERY}
# The values of one role beyond those of all roles; and all values in one section.
MixnodePart: Any = _section("MixnodePart", _OF_MIXNODE)
GatewayPart: Any = _section("GatewayPart", _OF_GATEWAY)
AnySection: Any = _section(
    "AnySection", {**_EVERY, **_OF_MIXNODE, **_OF_GATEWAY, "takes": ("takes", tuple[str, ...], DEFAULT_TAKES)}
)


@dataclass(frozen=True, slots=True)
class AnyConfig:
    """The configuration of a node that can be mixnode and gateway: the values of both."""

    node: Any


class NymNodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node's `config.toml`."""

    node: NodeSection
    mixnode: MixnodePart
    gateway: GatewayPart

    def as_mixnode(self) -> MixnodeConfig:
        """The configuration as a mixnode."""
        own = msgspec.structs.asdict(self.mixnode)
        return MixnodeConfig(node=MixnodeSection(**self._common(), **own))

    def as_gateway(self) -> GatewayConfig:
        """The configuration as a gateway."""
        own = msgspec.structs.asdict(self.gateway)
        return GatewayConfig(node=GatewaySection(**self._common(), **own))

    def as_any(self) -> AnyConfig:
        """The configuration as a node that can be both."""
        parts = msgspec.structs.asdict(self.mixnode) | msgspec.structs.asdict(self.gateway)
        return AnyConfig(AnySection(**self._common(), **parts, takes=tuple(self.node.takes)))

    def section(self) -> Any:
        """The section with all values for the configured mode."""
        if self.node.mode == "mixnode":
            return self.as_mixnode().node
        return (self.as_any() if self.node.mode == "auto" else self.as_gateway()).node

    def _common(self) -> dict[str, Any]:
        return {name: getattr(self.node, name) for name in MixSection.__struct_fields__}
