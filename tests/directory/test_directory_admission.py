"""Who is let in, which layer a mixnode gets, what this machine may post unsigned, validators, and HTTPS."""

import datetime
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from heartbeats import signed_heartbeat
from nacl.signing import SigningKey

from twisted.internet.testing import MemoryReactorClock

from nymtw.directory.admission import Admission
from nymtw.directory.config import DirectoryConfig, DirectorySection
from nymtw.directory.https import server_security
from nymtw.directory.service import DirectoryService, load_directory_config, make_directory
from nymtw.encoding import key_text
from nymtw.errors import ConfigError, DirectoryError, EncodingError
from nymtw.node.home import NodeHome
from nymtw.topology.document import verify_topology
from nymtw.topology.presence import make_validator

START = 1_800_000_000.0


def key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


def text(number: int) -> str:
    return key_text(bytes(key(number).verify_key))


class World:
    def __init__(self, previous: bytes | None = None, admits: Any = None, **section: Any) -> None:
        self.clock = MemoryReactorClock()
        config = DirectoryConfig(directory=DirectorySection(id="one", **section))
        admitted = {} if admits is None else {"admits": admits}
        self.directory = make_directory(
            self.clock, key(999), config, wall_clock=self.wall, previous=previous, **admitted
        )

    def wall(self) -> float:
        return START + float(self.clock.seconds())

    def announce(self, number: int, **changes: Any) -> None:
        values: dict[str, Any] = {"host": "127.0.0.1", "port": 1000 + number, "keys": {1: bytes(32)}, **changes}
        post = signed_heartbeat("mixnode", timestamp=int(self.wall() * 1e9), signing_key=key(number), **values)
        self.directory.announce("mixnodes", post, "127.0.0.1")

    def layers(self) -> dict[int, int]:
        found = {entry.record.identity: entry.record.layer for entry in self.directory.registry.present()}
        return {
            number: found[bytes(key(number).verify_key)]
            for number in range(20)
            if bytes(key(number).verify_key) in found
        }


def write(path: Path, policy: str, *identities: str) -> None:
    listed = ", ".join(f'"{each}"' for each in identities)
    path.write_text(f'[admission]\npolicy = "{policy}"\nidentities = [{listed}]\n')
    os.utime(path, ns=(write.stamp, write.stamp))  # type: ignore[attr-defined]  # a second write within a clock tick
    write.stamp += 10**9  # type: ignore[attr-defined]


write.stamp = 10**18  # type: ignore[attr-defined]


def test_a_policy_changes_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "admission.toml"
    admission = Admission(path)
    world = World(admits=admission.admits)

    def reread() -> None:
        admission.reread(world.directory.registry.drop_the_unadmitted)

    for number in (1, 2, 3):
        world.announce(number, layer=number)
    write(path, "deny-list", text(2))
    reread()
    assert sorted(world.layers()) == [1, 3]
    world.clock.advance(2)
    with pytest.raises(DirectoryError, match=f"{text(2)} is not admitted"):
        world.announce(2, layer=2)
    world.announce(1, layer=1)
    write(path, "allow-list", text(2))
    reread()
    assert world.layers() == {}
    world.announce(2, layer=2)
    write(path, "open")
    reread()
    world.announce(3, layer=3)
    assert sorted(world.layers()) == [2, 3]
    topology = verify_topology(world.directory.publisher.document(), world.directory.publisher.trust, world.wall())
    assert len(topology.nodes) == 2


@pytest.mark.parametrize(
    "content", ["[admission\n", '[admission]\npolicy = "shut"\n', '[admission]\nidentities = ["x"]\n', ""]
)
def test_a_policy_that_cannot_be_used_changes_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admission.toml"
    admission = Admission(path)
    write(path, "deny-list", text(1))
    admission.reread(lambda: None)
    if content:
        path.write_text(content)
    else:
        path.unlink()
    called: list[int] = []
    admission.reread(lambda: called.append(1))
    assert not called
    assert not admission.admits(bytes(key(1).verify_key))
    if content:
        with pytest.raises(ConfigError, match=r"admission\.toml"):
            Admission(path)


def test_a_mixnode_that_asks_for_no_layer_gets_the_thinnest_and_keeps_it() -> None:
    world = World()
    world.announce(1, layer=1)
    for number in range(2, 8):
        world.announce(number)
    layers = world.layers()
    assert sorted(layers.values()) == [1, 1, 1, 2, 2, 3, 3]
    world.clock.advance(10)
    assert world.layers() == {}
    for number in (7, 6, 5, 4, 3, 2, 1):
        world.announce(number, **({"layer": 1} if number == 1 else {}))
    assert world.layers() == layers
    shown = world.directory.presence()["MixNodes"]
    assert sorted(node["layer"] for node in shown) == [1, 1, 1, 2, 2, 3, 3]
    document = world.directory.publisher.document()
    again = World(previous=document)
    for number in (7, 2, 5):
        again.announce(number)
    assert again.layers() == {number: layers[number] for number in (7, 2, 5)}


OLD = {
    "mixnodes": {"host": "10.0.0.1:1789", "pubKey": "old", "layer": 1, "lastSeen": 5, "version": "0.2.0"},
    "mixproviders": {"host": "10.0.0.2:1789", "pubKey": "p", "registeredClients": [{"pubKey": "c"}]},
    "gateways": {"clientListener": "a:1", "mixnetListener": "a:2", "pubKey": "g", "registeredClients": []},
    "coconodes": {"host": "h", "pubKey": "v", "type": "nym"},
}
NAMES = {
    "mixnodes": "MixNodes",
    "mixproviders": "MixProviderNodes",
    "gateways": "GatewayNodes",
    "coconodes": "CocoNodes",
}


@pytest.mark.parametrize("path", OLD)
def test_an_unsigned_post_of_this_machine_is_shown_where_that_was_asked_for(path: str) -> None:
    world = World(unsigned_localhost=True)
    world.directory.announce(path, OLD[path], "127.0.0.1")
    for lower in (False, True):
        name = NAMES[path]
        [shown] = world.directory.presence(lower)[name[0].lower() + name[1:] if lower else name]
        expected = {**OLD[path], "lastSeen": int(world.wall() * 1e9)}
        assert shown == expected
    assert world.directory.publisher.topology().nodes == ()
    with pytest.raises(EncodingError):
        world.directory.announce(path, OLD[path], "192.0.2.1")
    with pytest.raises(EncodingError):
        World().directory.announce(path, OLD[path], "127.0.0.1")
    with pytest.raises((EncodingError, DirectoryError)):
        world.directory.announce(path, {"pubKey": "old"}, "127.0.0.1")
    world.clock.advance(6)
    assert world.directory.presence()[NAMES[path]] == []


def test_an_unsigned_metric_of_2019_is_summed() -> None:
    world = World(unsigned_localhost=True)
    metric = {"pubKey": "old", "sent": {"peer1": 3, "peer2": 4}, "received": 9}
    with pytest.raises(DirectoryError, match="no mixnode"):
        world.directory.report(metric, "127.0.0.1")
    world.directory.announce("mixnodes", OLD["mixnodes"], "127.0.0.1")
    world.directory.report(metric, "127.0.0.1")
    world.clock.advance(1)
    assert [(m["pubKey"], m["sent"], m["received"]) for m in world.directory.metrics()] == [("old", 7, 9)]
    with pytest.raises(EncodingError):
        world.directory.report(metric, "192.0.2.1")


def test_what_is_shown_unsigned_is_bounded() -> None:
    world = World(unsigned_localhost=True)
    for number in range(1000):
        world.directory.announce("coconodes", {**OLD["coconodes"], "pubKey": str(number)}, "127.0.0.1")
    with pytest.raises(DirectoryError, match="no room"):
        world.directory.announce("coconodes", OLD["coconodes"], "127.0.0.1")
    world.clock.advance(6)
    world.directory.announce("coconodes", OLD["coconodes"], "127.0.0.1")


def test_a_validator_announces_itself_signed() -> None:
    world = World(admits=lambda identity: identity != bytes(key(2).verify_key))

    def post(number: int = 1, **changes: Any) -> dict[str, Any]:
        now = int(world.wall() * 1e9)
        values: dict[str, Any] = {
            "public_key": "nymvaloper1",
            "host": "192.0.2.1",
            "port": 26656,
            "kind": "nym",
            **changes,
        }
        return make_validator(timestamp=now, signing_key=key(number), **values)

    world.directory.announce("coconodes", post(), "192.0.2.1")
    [shown] = world.directory.presence()["CocoNodes"]
    assert (shown["pubKey"], shown["host"], shown["type"]) == ("nymvaloper1", "192.0.2.1:26656", "nym")
    assert [each["pubKey"] for each in world.directory.validators()] == ["nymvaloper1"]
    assert world.directory.validators()[0]["height"] is None
    assert "height" not in shown
    with pytest.raises(DirectoryError, match="not newer"):
        world.directory.announce("coconodes", post(), "192.0.2.1")
    world.clock.advance(1)
    world.directory.announce("coconodes", post(block=(7, 5 * 10**18 // 3)), "192.0.2.1")
    [listed] = world.directory.validators()
    assert (listed["height"], listed["blockTime"]) == (7, 5 * 10**18 // 3)
    with pytest.raises(DirectoryError, match="not admitted"):
        world.directory.announce("coconodes", post(2), "192.0.2.1")
    with pytest.raises(EncodingError, match="signature"):
        world.directory.announce("coconodes", {**post(3), "type": "other"}, "192.0.2.1")
    assert world.directory.publisher.topology().nodes == ()


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def test_https_has_a_port_of_its_own(tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    home = NodeHome("directory", "one", tmp_path)
    section = {"id": "one", "certificate": str(cert), "certificate_key": str(private), "https_port": 8443}
    reactor = MemoryReactorClock()
    service = DirectoryService.from_config(reactor, home, load_directory_config(home, {"directory": section}))
    service.privilegedStartService()
    assert [port for port, *_ in reactor.tcpServers] == [8080, 8443]
    assert service.secure_url == "https://127.0.0.1:8443"
    home.unlock()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    cert, private = certificate(tmp_path)
    other, other_key = certificate(tmp_path, "other")
    assert server_security(str(cert), str(private)) is not None
    with pytest.raises(ConfigError, match="not the key of"):
        server_security(str(cert), str(other_key))
    with pytest.raises(ConfigError, match=r"localhost\.key: there is no PEM certificate"):
        server_security(str(private), str(private))
    with pytest.raises(ConfigError, match=r"other\.crt: there is no PEM private key"):
        server_security(str(cert), str(other))
    with pytest.raises(ConfigError, match="No such file"):
        server_security(str(tmp_path / "none"), str(private))
    with pytest.raises(ConfigError, match="--certificate-key"):
        server_security(str(cert), "")
