"""The signed topology: what is believed, what is refused and why, and its indexes."""

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from nymtw.encoding import to_cbor
from nymtw.errors import TopologyError, TopologyExpired, TopologyIncomplete, TopologySignatureError
from nymtw.topology.document import (
    NodeRecord,
    PublicClient,
    Recommended,
    SignedTopology,
    Topology,
    Trust,
    check_usable,
    sign_topology,
    verify_topology,
)

pytestmark = pytest.mark.pythons

KEYS = [SigningKey(bytes([number]) * 32) for number in (1, 2, 3)]
IDENTITIES = tuple(bytes(key.verify_key) for key in KEYS)
TRUST = Trust(IDENTITIES[:1])
NOW = 1_700_000_000


def node(number, role="mixnode", layer=0, **changes):
    fields = {
        "role": role,
        "identity": bytes([number]) * 32,
        "host": "192.0.2.1",
        "port": 1000 + number,
        "layer": layer,
        "client_port": 0 if role == "mixnode" else 9000,
        "sphinx_keys": {5: bytes([number]) * 32, 6: bytes([number + 100]) * 32},
    }
    return NodeRecord(**{**fields, **changes})


NODES = (
    *(node(number, layer=(number + 2) // 3) for number in range(1, 7)),
    node(7, layer=3),
    node(8, "provider"),
    node(9, "provider"),
    node(10, "gateway"),
)


def topology(**changes):
    fields = {
        "serial": 10,
        "network": TRUST.network,
        "published": NOW * 10**9,
        "valid_until": (NOW + 180) * 10**9,
        "refresh": 60.0,
        "epoch": 5,
        "epoch_seconds": 86400,
        "nodes": NODES,
        "clients": (PublicClient(address="somebody", provider=bytes([8]) * 32),),
    }
    return Topology(**{**fields, **changes})


def test_what_is_signed_is_read_back():
    made = topology(recommended=Recommended(message_sending_rate=100.0), minimum_client_version="0.1.0")
    assert verify_topology(sign_topology(made, KEYS[:1]), TRUST, NOW) == made


def test_the_network_is_that_of_its_directories_in_any_order():
    assert Trust(IDENTITIES).network == Trust(IDENTITIES[::-1]).network != TRUST.network
    assert len(TRUST.network) == 16


@pytest.mark.parametrize(("threshold", "signers", "believed"), [
    (1, [0], True), (1, [2], True), (2, [0], False), (2, [0, 2], True), (3, [0, 1], False), (3, [0, 1, 2], True),
])  # fmt: skip
def test_as_many_directories_sign_as_are_asked_for(threshold, signers, believed):
    trust = Trust(IDENTITIES, threshold)
    signed = sign_topology(topology(network=trust.network), [KEYS[number] for number in signers])
    if believed:
        assert verify_topology(signed, trust, NOW).serial == 10
    else:
        with pytest.raises(TopologySignatureError, match=f"{len(signers)} valid signatures of the {threshold} needed"):
            verify_topology(signed, trust, NOW)


def test_a_directory_that_is_listed_twice_counts_once():
    with pytest.raises(TopologyError):
        Trust((IDENTITIES[0], IDENTITIES[0]), 2)
    with pytest.raises(TopologyError):
        Trust((), 0)


def test_a_stranger_s_signature_is_none():
    with pytest.raises(TopologySignatureError):
        verify_topology(sign_topology(topology(), KEYS[1:]), TRUST, NOW)


@pytest.mark.parametrize("signature", [b"", b"short", bytes(64), bytes(65)])
def test_a_malformed_signature_is_none(signature):
    signed = SignedTopology(document=to_cbor(topology()), signatures={IDENTITIES[0]: signature})
    with pytest.raises(TopologySignatureError):
        verify_topology(to_cbor(signed), TRUST, NOW)


def test_a_changed_document_is_not_believed():
    data = sign_topology(topology(), KEYS[:1])
    at = data.index(b"192.0.2.1")
    with pytest.raises(TopologySignatureError):
        verify_topology(data[:at] + b"192.0.2.2" + data[at + 9 :], TRUST, NOW)


def test_an_old_topology_has_run_out():
    data = sign_topology(topology(), KEYS[:1])
    verify_topology(data, TRUST, NOW + 180)
    with pytest.raises(TopologyExpired, match="expired 20 seconds ago"):
        verify_topology(data, TRUST, NOW + 200)


def test_a_roll_back_is_refused_and_the_same_again_is_none():
    data = sign_topology(topology(), KEYS[:1])
    assert verify_topology(data, TRUST, NOW, newer_than=10).serial == 10
    with pytest.raises(TopologyError, match="older than one already seen"):
        verify_topology(data, TRUST, NOW, newer_than=11)


@pytest.mark.parametrize(("changes", "match"), [
    ({"network": bytes(16)}, "another network"),
    ({"format": 2}, "format 2"),
    ({"nodes": (*NODES, NODES[0])}, "twice"),
    ({"nodes": (node(1, "spy"),)}, "unknown role 'spy'"),
    ({"nodes": (node(1),)}, "mixnode in layer 0"),
    ({"nodes": (node(1, "provider", 2),)}, "provider in layer 2"),
    ({"nodes": (node(1, layer=4),)}, "cannot be read"),
    ({"nodes": (node(1, layer=1, identity=b"short"),)}, "cannot be read"),
    ({"nodes": (node(1, layer=1, sphinx_keys={5: b"short"}),)}, "cannot be read"),
    ({"nodes": (node(1, layer=1, port=65536),)}, "cannot be read"),
    ({"refresh": float("nan")}, "cannot be read"),
    ({"epoch_seconds": 0}, "cannot be read"),
    ({"recommended": Recommended(fetch_slots=0)}, "cannot be read"),
    ({"recommended": Recommended(message_sending_rate=-1.0)}, "cannot be read"),
    ({"recommended": Recommended(average_packet_delay=float("inf"))}, "cannot be read"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused_although_it_is_signed(changes, match):
    with pytest.raises(TopologyError, match=match):
        verify_topology(sign_topology(topology(**changes), KEYS[:1]), TRUST, NOW)


def test_an_unknown_field_is_refused():
    plain = cbor2.loads(to_cbor(topology())) | {"surprise": 1}
    document = cbor2.dumps(plain, canonical=True)
    signature = KEYS[0].sign(b"nymtw topology v1\0" + document).signature
    data = to_cbor(SignedTopology(document=document, signatures={IDENTITIES[0]: signature}))
    with pytest.raises(TopologyError, match="surprise"):
        verify_topology(data, TRUST, NOW)


@given(st.binary(max_size=400))
def test_hostile_bytes_are_a_topology_error(data):
    with pytest.raises(TopologyError):
        verify_topology(data, TRUST, NOW)


SIGNED = sign_topology(topology(), KEYS[:1])


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_a_topology_error(at, change):
    data = bytearray(SIGNED)
    data[at] ^= change
    with pytest.raises(TopologyError):
        verify_topology(bytes(data), TRUST, NOW)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40)
    | st.text(max_size=9),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=9) | st.integers(), one, max_size=4),
))  # fmt: skip
def test_signed_nonsense_is_a_topology_error(value):
    document = cbor2.dumps(value)
    signature = KEYS[0].sign(b"nymtw topology v1\0" + document).signature
    data = to_cbor(SignedTopology(document=document, signatures={IDENTITIES[0]: signature}))
    with pytest.raises(TopologyError):
        verify_topology(data, TRUST, NOW)


# -- looking things up


def identities(*numbers):
    return frozenset(bytes([number]) * 32 for number in numbers)


def test_nodes_are_found_by_identity_role_and_layer():
    made = topology()
    assert made.find(bytes([9]) * 32) is NODES[8]
    assert made.find(bytes(32)) is None
    assert [len(made.mixnodes(layer)) for layer in (1, 2, 3)] == [3, 3, 1]
    assert dict(made.layers()) == {layer: made.mixnodes(layer) for layer in (1, 2, 3)}
    assert [one.role for one in made.edges()] == ["provider", "provider", "gateway"]
    assert made.providers() == NODES[7:9]
    assert made.gateways() == NODES[9:]


def test_indexes_are_built_once_and_are_no_part_of_the_record():
    made = topology()
    assert made.mixnodes(1) is made.mixnodes(1)
    assert made.edges() is made.edges()
    assert made.predecessors(NODES[0]) is made.predecessors(NODES[1])
    assert made == topology()
    assert sign_topology(made, KEYS[:1]) == SIGNED
    assert msgspec.structs.replace(made, nodes=()).edges() == ()


def test_who_may_send_to_whom():
    made = topology()
    edges = identities(8, 9, 10)
    layers = [edges, identities(1, 2, 3), identities(4, 5, 6), identities(7), edges]
    for layer, number in ((1, 1), (2, 4), (3, 7)):
        record = made.find(bytes([number]) * 32)
        assert made.predecessors(record) == layers[layer - 1]
        assert made.successors(record) == layers[layer + 1]
    for record in made.edges():
        assert made.predecessors(record) == identities(7)
        assert made.successors(record) == identities(1, 2, 3)


def test_a_key_of_an_epoch_that_is_not_announced_is_missing():
    assert NODES[0].sphinx_key(6) == bytes([101]) * 32
    with pytest.raises(TopologyIncomplete, match="no key for key epoch 7"):
        NODES[0].sphinx_key(7)


@pytest.mark.parametrize(("changes", "match"), [
    ({"nodes": NODES[3:]}, "layer 1 has no mixnode"),
    ({"nodes": NODES[:6]}, "layer 3 has no mixnode"),
    ({"nodes": NODES[:7]}, "no provider or gateway"),
    ({"epoch": 4}, "no mixnode of layer 1 has a key for key epoch 4"),
])  # fmt: skip
def test_what_is_missing_is_named(changes, match):
    check_usable(topology())
    with pytest.raises(TopologyIncomplete, match=match):
        check_usable(topology(**changes))


def test_nodes_without_a_key_of_the_epoch_are_listed_but_not_used():
    late = node(20, layer=1, sphinx_keys={6: bytes(32)})
    made = topology(nodes=(*NODES, late))
    assert late in made.mixnodes(1)
    assert late not in made.usable_mixnodes(1)
    assert len(made.usable_edges()) == 3
