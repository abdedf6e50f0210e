"""What a node tells about itself over HTTP, below `/api/v1/`: one table of routes. All of it is there to read only."""

import platform
from collections.abc import Mapping
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
    """What its operator says of a node."""

    @property
    def moniker(self) -> str: ...
    @property
    def website(self) -> str: ...
    @property
    def security_contact(self) -> str: ...


def routes(node: Any, mode: str, description: Description, statistics: Statistics) -> list[Route]:
    """The API of `node`, a `MixNode` of whatever role, its description, and the page that shows it."""

    def roles(call: Call) -> Answer:
        own = node.core.own
        place, following = places_of(node)
        return as_json(
            {
                "mixnode_enabled": own.role == MIXNODE,
                "gateway_enabled": own.role in EDGE_ROLES,
                "network_requester_enabled": "exit" in (node.announced().get("services") or ()),
                "ip_packet_router_enabled": False,
                "mode": mode,
                "place": place,
                "next_place": following,
            }
        )

    def health(call: Call) -> Answer:
        announced, valid = bool(node.presence.announced), _has_topology(node)
        well = announced and valid
        body = {
            "status": "up" if well else "degraded",
            "uptime": int(statistics.uptime),
            "announced": announced,
            "topology_valid": valid,
        }
        return as_json(body, 200 if well else 503)

    def build(call: Call) -> Answer:
        return as_json(
            {
                "binary_name": "nym-node",
                "build_version": version("nymtw"),
                "python_version": platform.python_version(),
            }
        )

    def describe(call: Call) -> Answer:
        return as_json(
            {
                "moniker": description.moniker,
                "website": description.website,
                "security_contact": description.security_contact,
                "details": node.section.description,
            }
        )

    def auxiliary(call: Call) -> Answer:
        return as_json({"location": node.section.country.upper()})

    def host(call: Call) -> Answer:
        own = node.core.own
        return as_json(
            {
                "ip_address": [own.host],
                "mix_port": node.listener.port,
                "client_port": node.announced().get("client_port", 0),
                "keys": {
                    "ed25519_identity": key_text(own.identity),
                    "x25519_sphinx": {str(epoch): key_text(key) for epoch, key in node.rotation.public_keys().items()},
                },
            }
        )

    def mixing(call: Call) -> Answer:
        return as_json(statistics.mixing())

    def packets(call: Call) -> Answer:
        return as_json(statistics.packets())

    every = f"as of the last whole {RESOLUTION:.0f} seconds"
    unwell = answers({"$ref": "#/components/schemas/Health"}, 503, also={})["503"]
    unwell["description"] = "The directory has not taken the last heartbeat, or the newest topology has run out."
    healthy = reading("Whether the node takes part in the network", "Health")
    healthy["responses"]["503"] = unwell
    table = [
        Route("GET", f"{PREFIX}/roles", roles, reading("What the node is now, and will be next", "Roles")),
        Route("GET", f"{PREFIX}/health", health, healthy),
        Route("GET", f"{PREFIX}/build-information", build, reading("Which program this is", "BuildInformation")),
        Route("GET", f"{PREFIX}/description", describe, reading("What its operator says of it", "Description")),
        Route("GET", f"{PREFIX}/auxiliary-details", auxiliary, reading("The country it stands in", "AuxiliaryDetails")),
        Route("GET", f"{PREFIX}/host-information", host, reading("Where it is, and its keys", "HostInformation")),
        Route("GET", f"{PREFIX}/metrics/mixing", mixing, reading(f"Packets, in short, {every}", "Mixing")),
        Route("GET", f"{PREFIX}/metrics/packets", packets, reading(f"The account of packets, {every}", "Packets")),
    ]
    described = document(table, "A nymtw node", "What a node tells about itself. docs/nym-node.md has more.", SCHEMAS)
    to_page = [moved(path, f"{PREFIX}/swagger/index.html") for path in ("/", f"{PREFIX}/swagger", f"{PREFIX}/swagger/")]
    return [*table, description_route(described, PREFIX), *swagger_routes(PREFIX), *to_page]


def places_of(node: Any) -> tuple[str, str]:
    """Where the node works in the topology's key epoch and in the next: names of `PLACES`, or "provider", or ""."""
    own = node.core.own
    topology = node.watch.current
    listed = None if topology is None else topology.find(own.identity)
    if listed is not None and listed.places:
        return listed.place(topology.epoch), listed.place(topology.epoch + 1)
    if own.role == MIXNODE:
        place = f"mixnode-{own.layer}" if own.layer else ""
    elif own.role == "gateway":
        place = "exit-gateway" if "exit" in (node.announced().get("services") or ()) else "entry-gateway"
    else:
        place = own.role if own.role in EDGE_ROLES else ""
    return place, place


def moved(path: str, to: str) -> Route:
    """Whoever asks for `path` is sent to another one."""

    def send(call: Call) -> Answer:
        return Answer(b"", 308, headers={"Location": to})

    return Route("GET", path, send)


def _has_topology(node: Any) -> bool:
    try:
        node.watch.usable()
    except TopologyError:
        return False
    return True
