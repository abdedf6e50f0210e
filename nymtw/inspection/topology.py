"""`nymtw topology`: the nodes of a network, as a table or as JSON."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from nymtw.encoding import key_text
from nymtw.errors import DirectoryError
from nymtw.inspection.ask import Directories, Options, run, silent
from nymtw.topology.document import Topology
from nymtw.topology.presence import endpoint_text

_ORDER = {"provider": 0, "gateway": 1, "mixnode": 2}


class SelfDescription(NamedTuple):
    """A node's description of itself, for people. The directory passes it on unsigned."""

    version: str = ""
    country: str = ""
    description: str = ""


def self_descriptions(body: bytes) -> dict[str, SelfDescription]:
    """The descriptions by identity (text), from the JSON of `/api/v1/nodes`. Unprintable characters are removed."""
    try:
        nodes = json.loads(body)["nodes"]
        return {
            node["identityKey"]: SelfDescription(*(_printable(node[name]) for name in SelfDescription._fields))
            for node in nodes
            if isinstance(node["identityKey"], str)
        }
    except (ValueError, LookupError, TypeError):
        return {}


def _printable(text: object) -> str:
    return "".join(each for each in str(text) if each.isprintable())


def table(topology: Topology, descriptions: Mapping[str, SelfDescription] | None = None) -> str:
    """The nodes, edges first, then layer by layer."""
    head = (
        *("role", "layer", "address", "client port", "clients", "key epochs", "identity", "services"),
        *SelfDescription._fields,
    )
    known = descriptions or {}
    rows = [
        (
            node.role,
            str(node.layer or "-"),
            endpoint_text(node.host, node.port),
            str(node.client_port or "-"),
            str(node.clients or "-"),
            ",".join(map(str, sorted(node.sphinx_keys))),
            key_text(node.identity),
            ",".join(sorted(node.services or ())),
            *known.get(key_text(node.identity), SelfDescription()),
        )
        for node in sorted(topology.nodes, key=lambda each: (_ORDER[each.role], each.layer, each.host, each.port))
    ]
    # Empty columns are left out.
    kept = [place for place in range(len(head)) if any(row[place] for row in rows) or not rows]
    lines = [_columns(row, kept) for row in (head, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(kept))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _columns(row: Sequence[str], places: Sequence[int]) -> tuple[str, ...]:
    return tuple(row[place] for place in places)


def as_json(topology: Topology, descriptions: Mapping[str, SelfDescription] | None = None) -> str:
    """The header and the nodes, keys as text. A node's unsigned description is apart, under the key "said"."""
    known = descriptions or {}
    nodes = [
        {
            "role": node.role,
            "layer": node.layer,
            "identity": key_text(node.identity),
            "host": node.host,
            "port": node.port,
            "client_port": node.client_port,
            "clients": node.clients or None,
            "lines": msgspec.structs.asdict(node.lines) if node.lines else None,
            "services": dict(node.services or {}),
            "sphinx_keys": {str(epoch): key_text(key) for epoch, key in sorted(node.sphinx_keys.items())},
            "said": known.get(key_text(node.identity), SelfDescription())._asdict(),
        }
        for node in topology.nodes
    ]
    names = ("serial", "published", "valid_until", "refresh", "epoch", "minimum_client_version")
    head = {name: getattr(topology, name) for name in names}
    return json.dumps({**head, "epoch_seconds": topology.epoch_seconds, "nodes": nodes}, indent=2)


async def show(reactor: Any, options: Options) -> int:
    """Fetch, verify and print. Raises `NymtwError`."""
    directories = Directories(reactor, options)
    try:
        found = await directories.fetch()
        try:
            descriptions = self_descriptions(await directories.description())
        except DirectoryError:
            descriptions = {}  # an older directory
    finally:
        await directories.close()
    topology = found.topology
    if options["json"]:
        print(as_json(topology, descriptions))
        return 0
    age = time.time() - topology.published / 1e9
    signers = ", ".join(map(key_text, found.signers))
    print(table(topology, descriptions))
    print(f"\n{len(topology.nodes)} nodes, key epoch {topology.epoch}, {age:.1f} s old, signed by {signers}")
    if topology.minimum_client_version:
        print(f"Clients older than {topology.minimum_client_version} cannot send.")
    for url, trouble in found.troubles.items():
        print(f"{url} cannot be used: {trouble}")
    for key in silent(found):
        print(f"The directory {key_text(key)} has not signed the topology.")
    if not found.pinned:
        print("The key that the directory named was trusted. Use --directory-key to choose the key that you trust.")
    return 0


class TopologyOptions(Options):
    synopsis = "Usage: nymtw topology [options]"
    longdesc = "Shows the nodes of a network, from the signed topology of its directory."
    optFlags = [["json", None, "Print JSON"]]


def main(arguments: Sequence[str]) -> int:
    """Run `nymtw topology` with these arguments; returns the exit status."""
    return run("nymtw topology", TopologyOptions(), arguments, show)
