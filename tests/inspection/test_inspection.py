"""What `nymtw check` says of a topology, the routes it tries, and how both commands end on bad input."""

import json
import re
import subprocess
import sys

import msgspec
import pytest
from nacl.signing import SigningKey

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from nymtw.encoding import key_text
from nymtw.inspection.check import Report, check_ports, check_topology
from nymtw.inspection.probe import ROUNDS, routes_through_all
from nymtw.inspection.topology import as_json, self_descriptions, table
from nymtw.testing.clock import FakeClock
from nymtw.testing.network import MemoryNetwork
from nymtw.topology.document import NodeRecord, Topology, Trust

NOW = 1_800_000_000.0
NETWORK = Trust((bytes(SigningKey(bytes(32)).verify_key),)).network
EPOCH = int(NOW // 60)


def node(number, layer=0, role="mixnode", keys=(EPOCH, EPOCH + 1)):
    return NodeRecord(
        role=role,
        identity=bytes([number]) * 32,
        host="192.0.2.1",
        port=1000 + number,
        layer=layer,
        client_port=0 if role == "mixnode" else 9000,
        sphinx_keys={epoch: bytes([number]) * 32 for epoch in keys},
    )


WHOLE = (node(1, 1), node(2, 2), node(3, 3), node(4, 3), node(9, role="provider"))


def topology(*nodes, **changes):
    fields = {"published": int((NOW - 1) * 1e9), "valid_until": int((NOW + 60) * 1e9), "epoch": EPOCH, **changes}
    return Topology(serial=7, network=NETWORK, refresh=2.0, epoch_seconds=60, nodes=nodes, **fields)


def printed(document):
    lines = []
    report = Report(lines.append)
    check_topology(document, NOW, report)
    return report.problems, "\n".join(lines)


def test_a_sound_topology_has_no_problem():
    problems, text = printed(topology(*WHOLE))
    assert problems == 0
    assert "BAD" not in text
    assert "1 in layer 1, 1 in layer 2, 2 in layer 3; 1 providers" in text


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (topology(*WHOLE, published=int((NOW - 60) * 1e9)), "60 s old"),
        (topology(*WHOLE, published=int((NOW + 60) * 1e9)), "in the future"),
        (topology(*WHOLE, epoch=EPOCH + 5), f"by this machine's clock it is {EPOCH}"),
        (topology(*WHOLE[1:]), "layer 1 has no mixnode"),
        (topology(*WHOLE[:-1]), "no provider or gateway"),
        (topology(*WHOLE, node(5, 2, keys=(EPOCH - 1,))), "no key for the current epoch"),
    ],
)
def test_each_trouble_is_named(document, cause):
    problems, text = printed(document)
    assert problems >= 1
    assert cause in text


def test_a_next_key_that_is_missing_is_only_a_note():
    problems, text = printed(topology(*WHOLE, node(5, 2, keys=(EPOCH,))))
    assert problems == 0
    assert "note" in text


def test_routes_lead_through_every_mixnode_and_vary_its_neighbours():
    document = topology(*(node(10 * layer + n, layer) for layer in (1, 2, 3) for n in range(4)))
    routes = routes_through_all(document)
    assert all([hop.layer for hop in route] == [1, 2, 3] for route in routes)
    for record in document.nodes:
        mine = [tuple(hop.identity for hop in route) for route in routes if record in route]
        assert len(mine) == ROUNDS
        assert len(set(mine)) == ROUNDS
    assert routes_through_all(topology(*WHOLE[1:])) == []


def test_what_nodes_report_of_themselves_is_shown_and_cannot_harm_a_terminal():
    document = topology(*WHOLE)
    key = key_text(WHOLE[0].identity)
    nodes = [{"identityKey": key, "version": "1.2", "country": "CH", "description": "\x1b[31mred\u202e <b>tape</b>"}]
    printed = self_descriptions(json.dumps({"nodes": nodes}).encode())
    shown = table(document, printed)
    assert shown.count("[31mred <b>tape</b>") == 1
    assert not re.search("[\x1b\u202e]", shown)
    assert shown.splitlines()[0].split()[-3:] == ["version", "country", "description"]
    assert "description" not in table(document)
    told = {each["identity"]: each["said"] for each in json.loads(as_json(document, printed))["nodes"]}
    assert told[key] == {"version": "1.2", "country": "CH", "description": "[31mred <b>tape</b>"}
    assert {each["country"] for name, each in told.items() if name != key} == {""}
    for broken in (b"", b"[]", b"{}", b'{"nodes": 1}', b'{"nodes": [{}]}', b'{"nodes": [{"identityKey": []}]}'):
        assert self_descriptions(broken) == {}


def test_table_and_json_have_every_node():
    document = topology(*WHOLE)
    lines = table(document).splitlines()
    assert [line.split()[0] for line in lines] == ["role", "provider", "mixnode", "mixnode", "mixnode", "mixnode"]
    assert [each["port"] for each in json.loads(as_json(document))["nodes"]] == [n.port for n in WHOLE]
    assert msgspec.structs.asdict(document)["serial"] == json.loads(as_json(document))["serial"]


def test_gateways_and_services_are_shown():
    exit_address = "an address of the exit"
    gateway = msgspec.structs.replace(node(8, role="gateway"), services={"store": "x", "exit": exit_address})
    document = topology(*WHOLE, gateway)
    lines = table(document).splitlines()
    assert lines[0].split()[-1] == "services"
    assert [line.split()[0] for line in lines[1:3]] == ["provider", "gateway"]
    assert lines[2].split()[-1] == "exit,store"
    assert lines[2].split()[2:4] == ["192.0.2.1:1008", "9000"]
    told = {each["role"]: each["services"] for each in json.loads(as_json(document))["nodes"]}
    assert told == {"mixnode": {}, "provider": {}, "gateway": {"store": "x", "exit": exit_address}}
    assert "services" not in table(topology(*WHOLE))


def test_both_ports_of_a_gateway_are_tried():
    network = MemoryNetwork(FakeClock())
    there, here = network.host("gateway", "192.0.2.1"), network.host("here", "192.0.2.2")
    gateway = node(8, role="gateway")
    lines = []
    report = Report(lines.append)

    def tried():
        network.clock.wait_for(Deferred.fromCoroutine(check_ports(here, [gateway], report)), 60)
        return lines.pop()

    ports = [there.listenTCP(number, Factory.forProtocol(Protocol)) for number in (gateway.port, gateway.client_port)]
    assert tried() == "ok    all 2 ports can be reached from here"
    ports[1].stopListening()
    assert f"gateway {key_text(gateway.identity)}" in (said_line := tried())
    assert "client port 9000 cannot be reached" in said_line
    ports[1].startListening()
    ports[0].stopListening()
    assert ": port 1008 cannot be reached" in tried()
    assert (report.problems, lines) == (2, [])


@pytest.mark.parametrize("command", ["topology", "check"])
@pytest.mark.parametrize("words", [["--directory=ftp://x"], ["--directory=http://127.0.0.1:1"], ["--nope"]])
def test_what_cannot_be_asked_is_one_line_and_status_1(command, words):
    program = "import sys; from nymtw.commands import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, command, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).strip()
