"""Heartbeats and metrics: what a node signs is read back, and everything else is refused with the reason."""

import base64
import json
from pathlib import Path

import cbor2
import msgspec
import pytest
from heartbeats import signed_heartbeat
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from nymtw.encoding import key_text
from nymtw.errors import EncodingError
from nymtw.topology.address import Address
from nymtw.topology.document import PublicClient, Trust, verify_topology
from nymtw.topology.presence import (
    MAX_SKEW,
    endpoint_text,
    make_metric,
    parse_endpoint,
    read_heartbeat,
    read_metric,
    sign_post,
)

pytestmark = pytest.mark.pythons

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
KEY = SigningKey(bytes(range(32)))
IDENTITY = bytes(KEY.verify_key)
NOW = 1_700_000_000
KEYS = {5: b"a" * 32, 6: b"b" * 32}
CLIENT = Address(bytes(32), b"k" * 32, IDENTITY).encode(bytes(16))
PREFIX = b"nymtw presence v1\0"


def heartbeat(role="mixnode", **changes):
    fields = {"host": "192.0.2.1", "port": 1789, "keys": KEYS, "timestamp": NOW * 10**9, "signing_key": KEY}
    if role == "mixnode":
        fields["layer"] = 2
    return signed_heartbeat(role, **{**fields, **changes})


def signed(post, prefix=PREFIX):
    return sign_post({name: value for name, value in post.items() if name != "signature"}, prefix, KEY)


def through_json(post):
    return json.loads(json.dumps(post))


def test_a_mixnode_is_read_back():
    read = read_heartbeat(through_json(heartbeat(version="0.1.0")), NOW)
    assert (read.record.role, read.record.layer, read.record.identity) == ("mixnode", 2, IDENTITY)
    assert (read.record.host, read.record.port, read.record.sphinx_keys) == ("192.0.2.1", 1789, KEYS)
    assert (read.timestamp, read.version, read.clients) == (NOW * 10**9, "0.1.0", ())


@pytest.mark.parametrize("role", ["provider", "gateway"])
def test_an_edge_is_read_back_with_the_clients_that_asked_to_be_listed(role):
    post = heartbeat(role, client_port=9000, registered_clients=[CLIENT], number=12)
    assert post["registeredClients"] == [{"pubKey": key_text(b"k" * 32), "address": CLIENT}]
    assert ("mixnetListener" in post, "host" in post) == (role == "gateway", role != "gateway")
    read = read_heartbeat(through_json(post), NOW)
    assert (read.record.role, read.record.client_port, read.number) == (role, 9000, 12)
    assert read.clients == (PublicClient(address=CLIENT, provider=IDENTITY),)


def test_an_empty_host_is_left_to_the_directory_and_one_key_is_enough():
    read = read_heartbeat(heartbeat(host="", keys={5: b"a" * 32}), NOW)
    assert (read.record.host, read.record.sphinx_keys) == ("", {5: b"a" * 32})


def test_the_signature_is_over_the_rest_by_the_identity_key():
    post = heartbeat()
    rest = {name: value for name, value in post.items() if name != "signature"}
    signature = bytes.fromhex(post["signature"])
    signed = PREFIX + cbor2.dumps(rest, canonical=True)
    assert VerifyKey(base64.urlsafe_b64decode(post["identityKey"])).verify(signed, signature) == signed


@pytest.mark.parametrize("name", sorted(heartbeat("provider", client_port=9000)))
def test_a_field_that_was_changed_or_left_out_spoils_the_signature(name):
    post = heartbeat("provider", client_port=9000, version="0.1.0")
    value = post[name]
    changed = {str: lambda: value[:-1] + ("0" if value[-1] != "0" else "1"), int: lambda: value + 1}
    other = changed.get(type(value), lambda: [{"pubKey": key_text(b"k" * 32), "address": CLIENT}])()
    for spoiled in ({**post, name: other}, {key: each for key, each in post.items() if key != name}):
        with pytest.raises(EncodingError):
            read_heartbeat(spoiled, NOW)


@pytest.mark.parametrize(("changes", "match"), [
    ({"role": "spy"}, "role"),
    ({"role": "provider"}, "layer"),
    ({"layer": 4}, "layer"),
    ({"layer": "2"}, "layer"),
    ({"host": "192.0.2.1"}, "host:port"),
    ({"host": "192.0.2.1:0"}, "host:port"),
    ({"host": "in valid:1"}, "host"),
    ({"mixnetListener": "192.0.2.1:1"}, "host"),
    ({"clientListener": "192.0.2.9:1"}, "clientListener"),
    ({"clientListener": "192.0.2.1:1"}, "mixnode has no clients"),
    ({"number": 3}, "mixnode has no clients"),
    ({"surprise": 1}, "surprise"),
    ({"keyEpoch": 2**32}, "keyEpoch"),
    ({"keyEpoch": -1}, "keyEpoch"),
    ({"pubKey": "A" * 44}, "44 characters"),
    ({"timestamp": 1.5}, "timestamp"),
])  # fmt: skip
def test_a_post_that_makes_no_sense_is_refused_although_it_is_signed(changes, match):
    with pytest.raises(EncodingError, match=match):
        read_heartbeat(signed({**heartbeat(), **changes}), NOW)


def test_listed_clients_are_this_provider_s_own():
    stranger = Address(bytes(32), b"k" * 32, bytes(32)).encode(bytes(16))
    for entry, match in (
        ({"pubKey": key_text(b"k" * 32), "address": stranger}, "another provider"),
        ({"pubKey": key_text(b"x" * 32), "address": CLIENT}, "not the key"),
        ({"pubKey": key_text(b"k" * 32), "address": "nonsense"}, "registeredClients"),
    ):
        with pytest.raises(EncodingError, match=match):
            read_heartbeat(signed({**heartbeat("provider"), "registeredClients": [entry]}), NOW)


@pytest.mark.parametrize(("skew", "match"), [(MAX_SKEW + 1, "behind"), (-MAX_SKEW - 1, "ahead of")])
def test_a_clock_that_is_off_is_named(skew, match):
    read_heartbeat(heartbeat(), NOW + skew * 0.99)
    with pytest.raises(EncodingError, match=f"{MAX_SKEW + 1:.0f} seconds {match} the directory's clock"):
        read_heartbeat(heartbeat(), NOW + skew)


def test_a_metric_is_no_heartbeat_and_its_signature_does_not_serve_for_one():
    metric = make_metric(public_key=b"a" * 32, sent=1, received=2, timestamp=NOW * 10**9, signing_key=KEY)
    with pytest.raises(EncodingError):
        read_heartbeat(metric, NOW)
    with pytest.raises(EncodingError, match="signature"):
        read_metric(signed(metric), NOW)


def test_a_metric_is_read_back_and_the_old_form_is_summed():
    metric = make_metric(public_key=b"a" * 32, sent=40, received=41, timestamp=NOW * 10**9, signing_key=KEY)
    read = read_metric(through_json(metric), NOW)
    assert (read.identity, read.public_key, read.sent, read.received) == (IDENTITY, key_text(b"a" * 32), 40, 41)
    old = signed({**metric, "sent": {"peer one": 3, "peer two": 4}}, b"nymtw metric v1\0")
    assert read_metric(through_json(old), NOW).sent == 7
    for sent in (-1, "3", {"peer": -3}, [1], None):
        with pytest.raises(EncodingError):
            read_metric(signed({**metric, "sent": sent}, b"nymtw metric v1\0"), NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=12), one, max_size=4),
)


@given(JSON)
def test_hostile_json_is_an_encoding_error(body):
    for read in (read_heartbeat, read_metric):
        with pytest.raises(EncodingError):
            read(body, NOW)


@given(st.sampled_from(sorted(heartbeat("provider", client_port=9000, registered_clients=[CLIENT]))), JSON)
def test_a_hostile_field_is_an_encoding_error_or_harmless(name, value):
    post = {**heartbeat("provider", client_port=9000, registered_clients=[CLIENT]), name: value}
    try:
        read_heartbeat(post, NOW)
    except EncodingError:
        return
    assert post == heartbeat("provider", client_port=9000, registered_clients=[CLIENT])


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 1), ("::1", 65535), ("", 80), ("mix.example.org", 1789)])
def test_an_endpoint_is_read_back(host, port):
    assert parse_endpoint(endpoint_text(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:65536", "1.2.3.4:01", "::1:80",
    "[1.2.3.4]:80", "[]:80", "[x]:80", "-a.b:80", "a..b:80", "a b:80", "a/b:80", "fe80::1%eth0:80", "[fe80::1%eth0]:80",
    "1.2.3.4:١"])  # fmt: skip
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(EncodingError):
        parse_endpoint(text)


def test_known_answers():
    vector = json.loads((VECTORS / "posts.json").read_text())
    now = int(vector["time"]) / 1e9
    roles = [read_heartbeat(post, now).record.role for post in vector["heartbeats"]]
    assert roles == ["mixnode", "provider", "gateway"]
    assert read_metric(vector["metric"], now).sent == 40
    key = SigningKey(bytes.fromhex(vector["signing_key"]))
    for post, prefix in [*((each, PREFIX) for each in vector["heartbeats"]), (vector["metric"], b"nymtw metric v1\0")]:
        rest = {name: value for name, value in post.items() if name != "signature"}
        assert key.sign(prefix + cbor2.dumps(rest, canonical=True)).signature.hex() == post["signature"]


def test_the_known_topology():
    vector = json.loads((VECTORS / "topology.json").read_text())
    signed_bytes = bytes.fromhex(vector["signed"])
    trust = Trust(tuple(bytes.fromhex(one) for one in vector["directories"]), vector["threshold"])
    assert trust.network.hex() == vector["network"]
    plain = cbor2.loads(signed_bytes)
    assert cbor2.dumps(plain, canonical=True) == signed_bytes
    for seed in vector["signing_keys"]:
        key = SigningKey(bytes.fromhex(seed))
        signature = key.sign(b"nymtw topology v1\0" + plain["document"]).signature
        assert plain["signatures"][bytes(key.verify_key)] == signature
    topology = verify_topology(signed_bytes, trust, NOW)
    readable = vector["readable"]
    assert [node.identity.hex() for node in topology.nodes] == [node["identity"] for node in readable["nodes"]]
    assert msgspec.to_builtins(topology.recommended) == readable["recommended"]
    assert str(topology.published) == readable["published"]
