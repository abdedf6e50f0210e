"""The HTTP API of a node, below `/api/v1/`: a handler for each route, and the table of routes. Read-only."""

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final, Protocol

from nymtw.drop_reasons import DropReason
from nymtw.encoding import key_text
from nymtw.errors import TopologyError
from nymtw.nym_node.statistics import RESOLUTION, Statistics
from nymtw.topology.document import EDGE_ROLES, MIXNODE, PLACES
from nymtw.web.http import Answer, Call, Route, as_json
from nymtw.web.openapi import INTEGER, KEY, answers, description_route, document, reading, record
from nymtw.web.pages import swagger_routes

PREFIX: Final = "/api/v1"
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_TIME: Final = {"type": "string", "format": "date-time"}
_PLACE: Final = {"enum": ["", "provider", *PLACES]}
SCHEMAS: Final[Mapping[str, Any]] = {
    "Error": record(error=_TEXT),
    "Roles": record(
        mixnode_enabled=_FLAG,
        gateway_enabled=_FLAG,
        network_requester_enabled=_FLAG,
        ip_packet_router_enabled={"const": False},
        mode=_TEXT,
        place=_PLACE,
        next_place=_PLACE,
    ),
    "Health": record(status={"enum": ["up", "degraded"]}, uptime=INTEGER, announced=_FLAG, topology_valid=_FLAG),
    "BuildInformation": record(binary_name=_TEXT, build_version=_TEXT, python_version=_TEXT),
    "Description": record(moniker=_TEXT, website=_TEXT, security_contact=_TEXT, details=_TEXT),
    "AuxiliaryDetails": record(location={"type": "string", "pattern": "^([A-Z]{2})?$"}),
    "HostInformation": record(
        ip_address={"type": "array", "items": _TEXT},
        mix_port=INTEGER,
        client_port=INTEGER,
        keys=record(
            ed25519_identity=KEY,
            x25519_sphinx={"type": "object", "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": KEY},
        ),
    ),
    "Mixing": record(
        update_time=_TIME,
        previous_update_time=_TIME,
        received_since_startup=INTEGER,
        sent_since_startup=INTEGER,
        dropped_since_startup=INTEGER,
        received_since_last_update=INTEGER,
        sent_since_last_update=INTEGER,
        dropped_since_last_update=INTEGER,
    ),
    "Packets": record(
        update_time=_TIME,
        received=INTEGER,
        forwarded=INTEGER,
        delivered=INTEGER,
        queued={"type": "integer"},
        dropped={
            "type": "object",
            "propertyNames": {"enum": [reason.value for reason in DropReason]},
            "additionalProperties": INTEGER,
        },
    ),
}


class Description(Protocol):
    """The operator's description of a node."""

    @property
    def moniker(self) -> str: ...
    @property
    def website(self) -> str: ...
    @property
    def security_contact(self) -> str: ...


class NodeApi:
    """The handlers of one node's API. `node`: a `MixNode` of any role."""

    def __init__(self, node: Any, mode: str, description: Description, statistics: Statistics) -> None:
        self._node, self._mode, self._description, self._statistics = node, mode, description, statistics

    def roles(self, call: Call) -> Answer:
        """The node's roles and place, now and in the next key epoch."""
        own, services = self._node.core.own, self._node.announced().record.services or ()
        place, following = places_of(self._node)
        return as_json(
            {
                "mixnode_enabled": own.role == MIXNODE,
                "gateway_enabled": own.role in EDGE_ROLES,
                "network_requester_enabled": "exit" in services,
                "ip_packet_router_enabled": False,
                "mode": self._mode,
                "place": place,
                "next_place": following,
            }
        )

    def health(self, call: Call) -> Answer:
        """Whether the node takes part in the network; status 503 if it does not."""
        announced, valid = bool(self._node.presence.announced), _has_topology(self._node)
        well = announced and valid
        body = {
            "status": "up" if well else "degraded",
            "uptime": int(self._statistics.uptime),
            "announced": announced,
            "topology_valid": valid,
        }
        return as_json(body, 200 if well else 503)

    def build_information(self, call: Call) -> Answer:
        """Program and versions."""
        versions = {"build_version": version("nymtw"), "python_version": platform.python_version()}
        return as_json({"binary_name": "nym-node", **versions})

    def description(self, call: Call) -> Answer:
        """The operator's description."""
        return as_json(
            {
                "moniker": self._description.moniker,
                "website": self._description.website,
                "security_contact": self._description.security_contact,
                "details": self._node.section.description,
            }
        )

    def auxiliary_details(self, call: Call) -> Answer:
        """The country."""
        return as_json({"location": self._node.section.country.upper()})

    def host_information(self, call: Call) -> Answer:
        """Address, ports and public keys."""
        node, own = self._node, self._node.core.own
        return as_json(
            {
                "ip_address": [own.host],
                "mix_port": node.listener.port,
                "client_port": node.announced().record.client_port,
                "keys": {
                    "ed25519_identity": key_text(own.identity),
                    "x25519_sphinx": {str(epoch): key_text(key) for epoch, key in node.rotation.public_keys().items()},
                },
            }
        )

    def mixing(self, call: Call) -> Answer:
        """Packets, in short."""
        return as_json(self._statistics.mixing())

    def packets(self, call: Call) -> Answer:
        """Packets by result and reason."""
        return as_json(self._statistics.packets())

    def routes(self) -> list[Route]:
        """The API, its description, and the page that shows it."""
        every = f"as of the last whole {RESOLUTION:.0f} seconds"
        table = [
            _route("roles", self.roles, "The node's roles and place, now and next", "Roles"),
            Route("GET", f"{PREFIX}/health", self.health, _health()),
            _route("build-information", self.build_information, "Program and versions", "BuildInformation"),
            _route("description", self.description, "The operator's description", "Description"),
            _route("auxiliary-details", self.auxiliary_details, "The country", "AuxiliaryDetails"),
            _route("host-information", self.host_information, "Address, ports and public keys", "HostInformation"),
            _route("metrics/mixing", self.mixing, f"Packets, in short, {every}", "Mixing"),
            _route("metrics/packets", self.packets, f"Packets by result and reason, {every}", "Packets"),
        ]
        described = document(table, "A nymtw node", "The API of a node. docs/nym-node.md has more.", SCHEMAS)
        page = f"{PREFIX}/swagger/index.html"
        to_page = [moved(path, page) for path in ("/", f"{PREFIX}/swagger", f"{PREFIX}/swagger/")]
        return [*table, description_route(described, PREFIX), *swagger_routes(PREFIX), *to_page]


def _route(path: str, handler: Callable[[Call], Answer], summary: str, schema: str) -> Route:
    return Route("GET", f"{PREFIX}/{path}", handler, reading(summary, schema))


def _health() -> dict[str, Any]:
    """The description of `health`, with its two status codes."""
    unwell = answers({"$ref": "#/components/schemas/Health"}, 503, also={})["503"]
    unwell["description"] = "The directory has not taken the last heartbeat, or the newest topology has expired."
    described = reading("Whether the node takes part in the network", "Health")
    described["responses"]["503"] = unwell
    return described


def places_of(node: Any) -> tuple[str, str]:
    """The node's places in the topology's key epoch and in the next: names of `PLACES`, or "provider", or ""."""
    own = node.core.own
    topology = node.watch.current
    found = None if topology is None else topology.find(own.identity)
    if found is not None and found.places:
        return found.place(topology.epoch), found.place(topology.epoch + 1)
    if own.role == MIXNODE:
        place = f"mixnode-{own.layer}" if own.layer else ""
    elif own.role == "gateway":
        place = "exit-gateway" if "exit" in (node.announced().record.services or ()) else "entry-gateway"
    else:
        place = own.role if own.role in EDGE_ROLES else ""
    return place, place


def moved(path: str, to: str) -> Route:
    """Redirect `path` to another path, permanently (status 308)."""

    def send(call: Call) -> Answer:
        return Answer(b"", 308, headers={"Location": to})

    return Route("GET", path, send)


def _has_topology(node: Any) -> bool:
    try:
        node.watch.usable()
    except TopologyError:
        return False
    return True
