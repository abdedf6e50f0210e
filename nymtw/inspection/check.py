"""`nymtw check`: checks a network's signatures, key epochs, layers and ports, and sends packets through mixnodes."""

import time
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol

from nymtw.encoding import key_text
from nymtw.errors import DirectoryError, NymtwError, TopologyError, TopologySignatureError
from nymtw.inspection.ask import Directories, Found, Options, run, silent
from nymtw.inspection.probe import probe
from nymtw.link.security import TLSSecurity
from nymtw.topology.document import MIXNODE, NodeRecord, Topology, check_usable
from nymtw.topology.presence import endpoint_text

CONNECT_TIMEOUT = 5.0  # seconds
STALE = 3  # refreshes


class Report:
    """Prints each finding at once, and counts the problems."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write
        self.problems = 0

    def good(self, text: str) -> None:
        """Report something that is correct."""
        self._write(f"ok    {text}")

    def bad(self, text: str) -> None:
        """Report a problem."""
        self.problems += 1
        self._write(f"BAD   {text}")

    def note(self, text: str) -> None:
        """Report something worth knowing."""
        self._write(f"note  {text}")


def name(node: NodeRecord) -> str:
    """The name of a node in the report."""
    where = f" of layer {node.layer}" if node.role == MIXNODE else ""
    return f"{node.role}{where} {key_text(node.identity)} at {endpoint_text(node.host, node.port)}"


def check_signatures(found: Found, report: Report) -> None:
    """Report the directories that have signed, those that have not, and those that cannot be used."""
    signers = ", ".join(map(key_text, found.signers))
    count, threshold = len(found.trust.directories), found.trust.threshold
    of_how_many = f" ({len(found.signers)} of {count}, {threshold} are needed)" if count > 1 else ""
    report.good(f"the topology is signed by {signers}{of_how_many}")
    for key in silent(found):
        report.bad(f"the directory {key_text(key)} has not signed the topology: it is down, cut off, or disagrees")
    for url, trouble in found.troubles.items():
        report.bad(f"the directory at {url} cannot be used: {trouble}")


def check_topology(topology: Topology, now: float, report: Report) -> None:
    """Check that the topology is fresh and complete, and that every node has its keys. `now`: wall-clock seconds."""
    age = now - topology.published / 1e9
    if age > STALE * topology.refresh + 1:
        report.bad(f"the topology is {age:.0f} s old, but a new one is due every {topology.refresh:g} s")
    elif age < -1:
        report.bad(f"the topology is {-age:.0f} s in the future: this clock or the directory's clock is wrong")
    else:
        report.good(f"the topology is {max(age, 0):.1f} s old; a new one is due every {topology.refresh:g} s")
    epoch = int(now // topology.epoch_seconds)
    if topology.epoch == epoch:
        report.good(f"the key epoch is {epoch}, which is correct")
    elif abs(topology.epoch - epoch) > 1:
        report.bad(f"the topology has key epoch {topology.epoch}; by this machine's clock it is {epoch}")
    for node in topology.nodes:
        if topology.epoch not in node.sphinx_keys:
            report.bad(f"{name(node)} has no key for the current epoch: no packet can pass it")
        elif topology.epoch + 1 not in node.sphinx_keys:
            report.note(f"{name(node)} has not announced its next key yet")
    try:
        check_usable(topology)
    except TopologyError as error:
        report.bad(f"{error}: no packet can cross this network")
    else:
        counts = ", ".join(f"{len(nodes)} in layer {layer}" for layer, nodes in topology.layers().items())
        report.good(f"mixnodes: {counts}; {len(topology.edges())} providers and gateways")


async def check_ports(reactor: Any, nodes: Sequence[NodeRecord], report: Report) -> None:
    """Connect to every port of every node."""
    places = [(node, port) for node in nodes for port in (node.port, node.client_port) if port]
    tried = [_connect(reactor, node.host, port) for node, port in places]
    outcomes: Any = await DeferredList(tried, consumeErrors=True)
    closed = 0
    for (node, port), (reached, result) in zip(places, outcomes, strict=True):
        if not reached:
            closed += 1
            what = "client port" if port == node.client_port else "port"
            report.bad(f"{name(node)}: {what} {port} cannot be reached: {_cause(result)}")
    if not closed:
        report.good(f"all {len(places)} ports can be reached from here")


async def check_packets(reactor: Any, topology: Topology, network: bytes, report: Report) -> None:
    """Send packets through every mixnode, over the first provider or gateway that answers."""
    edges = [node for node in topology.usable_edges() if node.client_port]
    mixnodes = [node for node in topology.nodes if node.role == MIXNODE and topology.epoch in node.sphinx_keys]
    for edge in edges:
        try:
            proven = await probe(reactor, topology, network, edge, TLSSecurity(None), SystemRandom())
        except Exception as error:
            report.bad(f"{name(edge)} does not serve a new client: {_text(error)}")
            continue
        for node in mixnodes:
            if node.identity not in proven:
                report.bad(f"{name(node)}: no test packet came back through it")
        if proven:
            report.good(f"test packets came back through {len(proven)} of {len(mixnodes)} mixnodes")
            return
    if not edges:
        report.bad("there is no provider or gateway for clients: no packet can be sent")


async def check(reactor: Any, options: Options, report: Report) -> int:
    """Run all checks, and return the exit status."""
    directories = Directories(reactor, options)
    try:
        found = await directories.fetch()
    except DirectoryError as error:
        report.bad(f"the directory does not answer: {error}")
    except TopologySignatureError as error:
        report.bad(f"the signature is wrong, another key has signed this topology: {error}")
    except NymtwError as error:
        report.bad(str(error))
    else:
        if not found.pinned:
            report.note("no --directory-key was given: the key that the directory named was trusted")
        check_signatures(found, report)
        check_topology(found.topology, time.time(), report)
        await check_ports(reactor, found.topology.nodes, report)
        await check_packets(reactor, found.topology, found.trust.network, report)
    finally:
        await directories.close()
    summary = "No problem was found." if not report.problems else f"Problems: {report.problems}."
    print(summary)
    return 1 if report.problems else 0


class CheckOptions(Options):
    synopsis = "Usage: nymtw check [options]"
    longdesc = (
        "Checks a network from this machine: the topology's signature and age, key epochs, the ports of every node, "
        "and a test packet through every mixnode. Explains each problem; the exit status is 1 if there is one."
    )


def main(arguments: Sequence[str]) -> int:
    """Run `nymtw check` with these arguments; returns the exit status."""
    return run("nymtw check", CheckOptions(), arguments, lambda reactor, options: check(reactor, options, Report()))


def _connect(reactor: Any, host: str, port: int) -> "Deferred[None]":
    endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
    connected: Deferred[Any] = endpoint.connect(Factory.forProtocol(Protocol))
    return connected.addCallback(lambda protocol: protocol.transport.abortConnection())


def _cause(failure: Any) -> str:
    return " ".join(failure.getErrorMessage().split()).rstrip(".") or failure.type.__name__


def _text(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
