"""Packets and SURBs exchanged with the sphinx-packet crate: built by one side, processed hop by hop by both."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nymtw.sphinx import (
    GEOMETRIES,
    SURB,
    FinalHop,
    ForwardHop,
    Geometry,
    Hop,
    SizeClass,
    build_packet,
    generate_keypair,
    process_packet,
    recover_message,
)
from nymtw.sphinx.header import open_beta
from nymtw.sphinx.keys import sender_keys

pytestmark = pytest.mark.interop

HERE = Path(__file__).resolve().parent
CARGO = (1, 85)  # what Cargo.lock and the crates in it ask for
VERSIONS = (258, 259)
REPEATS = 4
# Every size class, version and length of route, four times over: 200 cases a test.
CASES = list(itertools.product(range(REPEATS), SizeClass, VERSIONS, range(1, 6)))


def text(data):
    return data.hex() or "-"


class Crate:
    """The Rust program: one request a line, one answer a line."""

    def __init__(self, program):
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def close(self):
        self._process.stdin.close()
        assert self._process.wait() == 0

    def process(self, packet, private_key):
        """What the crate makes of a packet, as `process_packet` answers it, and the message where it can be read."""
        kind, *words = self.ask("process", private_key.hex(), packet.hex())
        if kind == "forward":
            address, delay, onward, tag = words
            return ForwardHop(bytes.fromhex(address), int(delay), bytes.fromhex(onward), bytes.fromhex(tag)), None
        assert kind == "final", (kind, words)
        destination, identifier, version, payload, message, tag = words
        final = FinalHop(
            bytes.fromhex(destination),
            bytes.fromhex(identifier),
            bytes.fromhex(payload),
            int(version),
            bytes.fromhex(tag),
        )
        return final, None if message == "unreadable" else bytes.fromhex(message.replace("-", ""))


class Case:
    """A random route with its keys, and all that a packet or SURB over it needs."""

    def __init__(self, source, hops, size_class):
        self.keys = [generate_keypair(source) for _ in range(hops)]
        self.route = [Hop(source.randbytes(32), public) for _, public in self.keys]
        self.delays = [source.getrandbits(64) for _ in range(hops - 1)]
        self.destination = source.randbytes(32)
        self.identifier = source.randbytes(16)
        self.secret = source.randbytes(32)
        self.geometry = GEOMETRIES[size_class]
        longest = self.geometry.plaintext_length
        self.message = source.randbytes(source.choice((0, 1, longest, source.randrange(longest + 1))))

    @property
    def words(self):
        """Route, delays, destination, identifier, as the Rust program reads them; it ignores the last delay."""
        route = ",".join(f"{hop.address.hex()}:{hop.public_key.hex()}" for hop in self.route)
        delays = ",".join(map(str, [*self.delays, 0]))
        return route, delays, self.destination.hex(), self.identifier.hex()

    def walk(self, packet, crate):
        """Process `packet` with both sides at every hop; they agree on each. Answers what the last hop gets."""
        for number, (private, _) in enumerate(self.keys):
            assert len(packet) == self.geometry.packet_length
            ours = process_packet(packet, private)
            theirs, message = crate.process(packet, private)
            assert ours == theirs
            if number + 1 < len(self.keys):
                assert ours.next_address == self.route[number + 1].address
                assert ours.delay == self.delays[number]
                last_packet = packet = ours.packet
            else:
                last_packet = packet
        assert (ours.destination, ours.identifier) == (self.destination, self.identifier)
        return ours, message, last_packet


@pytest.fixture(scope="module")
def crate():
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    logged = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, logged.split()[1].split(".")[:2])) < CARGO:
        pytest.skip(f"cargo {'.'.join(map(str, CARGO))} or later is needed: this is {logged.strip()}")
    target = HERE / "target"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", target], cwd=HERE, check=True
    )
    program = Crate(target / "release" / "sphinx-interop")
    yield program
    program.close()


def test_packets_built_here_are_processed_by_the_crate(crate, source):
    for _, size_class, version, hops in CASES:
        case = Case(source, hops, size_class)
        packet = build_packet(
            case.message, case.route, case.delays, case.destination, case.identifier,
            size_class=size_class, version=version, random=source,
        )  # fmt: skip
        final, message, _ = case.walk(packet, crate)
        assert final.version == version
        assert message == case.message == recover_message(final.payload)


def test_packets_built_by_the_crate_are_processed_here_and_rebuilt_to_the_byte(crate, source):
    for _, size_class, version, hops in CASES:
        case = Case(source, hops, size_class)
        status, packet = crate.ask(
            "build", version, case.geometry.payload_length, case.secret.hex(), text(case.message), *case.words
        )
        assert status == "ok"
        packet = bytes.fromhex(packet)
        final, message, last_packet = case.walk(packet, crate)
        assert final.version == version
        assert message == case.message == recover_message(final.payload)

        # The crate draws its padding itself: it stands behind the identifier where the last hop decrypts.
        _, keys = sender_keys(case.secret, [hop.public_key for hop in case.route])
        opened = open_beta(keys[-1].stream_key, last_packet[48:348])
        padding = opened[52 : 52 + Geometry.header_padding_length(hops)]
        rebuilt = build_packet(
            case.message, case.route, case.delays, case.destination, case.identifier,
            size_class=size_class, version=version, secret=case.secret, padding=padding,
        )  # fmt: skip
        assert rebuilt == packet


def test_surbs_made_here_are_used_by_the_crate(crate, source):
    for _, size_class, version, hops in CASES:
        case = Case(source, hops, size_class)
        surb, record = SURB.create(
            case.route, case.delays, case.destination, case.identifier, version=version, random=source
        )
        status, address, packet = crate.ask(
            "use", case.geometry.payload_length, surb.to_bytes().hex(), text(case.message)
        )
        assert (status, address) == ("ok", case.route[0].address.hex())
        final, message, last_packet = case.walk(bytes.fromhex(packet), crate)
        assert message == case.message == record.open(final.payload) == record.open_packet(last_packet)


def test_surbs_made_by_the_crate_are_used_here(crate, source):
    for _, size_class, version, hops in CASES:
        case = Case(source, hops, size_class)
        status, surb = crate.ask("surb", version, case.secret.hex(), *case.words)
        assert status == "ok"
        surb = SURB.from_bytes(bytes.fromhex(surb))
        assert len(surb.to_bytes()) == Geometry.surb_length(hops, version)
        address, packet = surb.use(case.message, size_class=size_class)
        assert address == case.route[0].address
        final, message, _ = case.walk(packet, crate)
        assert message == case.message == recover_message(final.payload)


def test_single_seed_surbs_pass_through_the_crate(crate, source):
    """The crate's hops do their part as always, and a user of the SURB with the crate needs nothing new."""
    for number, (_, size_class, version, hops) in enumerate(CASES):
        case = Case(source, hops, size_class)
        surb, record = SURB.create(
            case.route, case.delays, case.destination, case.identifier,
            version=version, single_seed=True, random=source,
        )  # fmt: skip
        if number % 2:
            _, packet = surb.use(case.message, size_class=size_class)
        else:
            status, _, packet = crate.ask(
                "use", case.geometry.payload_length, surb.to_bytes().hex(), text(case.message)
            )
            assert status == "ok"
            packet = bytes.fromhex(packet)
        final, message, last_packet = case.walk(packet, crate)
        assert message is None or hops == 1
        assert case.message == record.open(final.payload) == record.open_packet(last_packet)


def test_both_sides_refuse_a_changed_header(crate, source):
    for version, hops in itertools.product(VERSIONS, range(1, 6)):
        case = Case(source, hops, SizeClass.ACK)
        packet = bytearray(
            build_packet(
                b"", case.route, case.delays, case.destination,
                size_class=SizeClass.ACK, version=version, random=source,
            )  # fmt: skip
        )
        packet[source.randrange(32, 348)] ^= 1 << source.randrange(8)
        kind, *_ = crate.ask("process", case.keys[0][0].hex(), packet.hex())
        assert kind == "error"
        with pytest.raises(Exception, match="bad-mac"):
            process_packet(bytes(packet), case.keys[0][0])


@pytest.mark.parametrize("name", ["sphinx-packets.json", "sphinx-surbs.json"])
def test_the_crate_agrees_with_the_known_answers(crate, name):
    for case in json.loads((HERE.parent / "vectors" / name).read_text())["cases"]:
        onward = [*case["packets"][1:], None]
        for number, (hop, packet) in enumerate(zip(case["route"], case["packets"], strict=True)):
            result, _ = crate.process(bytes.fromhex(packet), bytes.fromhex(hop["private_key"]))
            assert result.replay_tag.hex() == case["keys"][number]["replay_tag"]
            if onward[number] is None:
                assert result.payload.hex() == case["final_payload"]
            else:
                assert result.packet.hex() == onward[number]
