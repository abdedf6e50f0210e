"""`nymtw topology`: who is in the network, as a table or as JSON."""

import json
import time
from collections.abc import Sequence
from typing import Any

from nymtw.encoding import key_text
from nymtw.inspection.ask import Options, directory_at, run, trust_of
from nymtw.topology.document import Topology, verify_topology
from nymtw.topology.presence import endpoint_text

_ORDER = {"provider": 0, "gateway": 1, "mixnode": 2}


def table(topology: Topology) -> str:
    """The nodes, edges first, then layer by layer."""
    head = ("role", "layer", "address", "clients", "key epochs", "identity")
    rows = [
        (
            node.role,
            str(node.layer or "-"),
            endpoint_text(node.host, node.port),
            str(node.client_port or "-"),
            ",".join(map(str, sorted(node.sphinx_keys))),
            key_text(node.identity),
        )
        for node in sorted(topology.nodes, key=lambda each: (_ORDER[each.role], each.layer, each.host, each.port))
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )


def as_json(topology: Topology) -> str:
    """The nodes and the header, keys as text."""
    nodes = [
        {
            "role": node.role,
            "layer": node.layer,
            "identity": key_text(node.identity),
            "host": node.host,
            "port": node.port,
            "client_port": node.client_port,
            "sphinx_keys": {str(epoch): key_text(key) for epoch, key in sorted(node.sphinx_keys.items())},
        }
        for node in topology.nodes
    ]
    head = {name: getattr(topology, name) for name in ("serial", "published", "valid_until", "refresh", "epoch")}
    return json.dumps({**head, "epoch_seconds": topology.epoch_seconds, "nodes": nodes}, indent=2)


async def show(reactor: Any, options: Options) -> int:
    """Fetch, verify and print. Raises `NymtwError`."""
    directory = directory_at(reactor, options["directory"])
    try:
        trust, pinned = await trust_of(directory, options["directory-key"])
        topology = verify_topology(await directory.topology(), trust, time.time())
    finally:
        await directory.close()
    if options["json"]:
        print(as_json(topology))
        return 0
    age = time.time() - topology.published / 1e9
    signers = ", ".join(map(key_text, trust.directories))
    print(table(topology))
    print(f"\n{len(topology.nodes)} nodes, key epoch {topology.epoch}, {age:.1f} s old, signed by {signers}")
    if not pinned:
        print("The directory was believed about its own key: --directory-key says whom you trust.")
    return 0


class TopologyOptions(Options):
    synopsis = "Usage: nymtw topology [options]"
    longdesc = "Shows the nodes of a network, out of its directory's signed topology."
    optFlags = [["json", None, "Print JSON"]]


def main(arguments: Sequence[str]) -> int:
    """Run with the words behind `nymtw topology`; returns the exit status."""
    return run("nymtw topology", TopologyOptions(), arguments, show)
