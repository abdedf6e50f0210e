"""The known-answer files: as the generator writes them, and true by the rules of the format."""

import importlib.util
import json
from pathlib import Path

import pytest

from nymtw.sphinx import SURB, Hop, SizeClass, SURBRecord, build_packet, lioness, process_packet, public_key
from nymtw.sphinx.keys import derive_keys, multiply_chain

pytestmark = pytest.mark.pythons

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
FILES = ("sphinx-packets.json", "sphinx-surbs.json")
CASES = {name: json.loads((VECTORS / name).read_text())["cases"] for name in FILES}
ALL = [pytest.param(case, id=f"{name}-{number}") for name in FILES for number, case in enumerate(CASES[name])]


def inputs(case):
    fields = {name: bytes.fromhex(case[name]) for name in ("destination", "identifier", "secret", "padding")}
    return {
        "route": [Hop(bytes.fromhex(hop["address"]), bytes.fromhex(hop["public_key"])) for hop in case["route"]],
        "delays": [int(delay) for delay in case["delays"]],
        "version": case["version"],
        **fields,
    }


def test_the_files_are_what_the_generator_writes():
    spec = importlib.util.spec_from_file_location("generate_sphinx", VECTORS / "generate_sphinx.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert set(generator.FILES) == set(FILES)
    for name, cases in generator.FILES.items():
        assert (VECTORS / name).read_text() == generator.text(cases())


def test_every_version_and_length_of_route_is_there():
    packets = {(case["size_class"], case["version"], case["hops"]) for case in CASES["sphinx-packets.json"]}
    surbs = {(case["single_seed"], case["version"], case["hops"]) for case in CASES["sphinx-surbs.json"]}
    expected = [(version, hops) for version in (258, 259) for hops in range(1, 6)]
    assert packets == {(size_class, *rest) for size_class in ("REGULAR", "ACK") for rest in expected}
    assert surbs == {(single_seed, *rest) for single_seed in (False, True) for rest in expected}


@pytest.mark.parametrize("case", ALL)
def test_keys_by_the_chain_and_packets_hop_by_hop(case):
    scalars = [bytes.fromhex(case["secret"])]
    for hop, shared, keys in zip(case["route"], case["shared_secrets"], case["keys"], strict=True):
        assert public_key(bytes.fromhex(hop["private_key"])).hex() == hop["public_key"]
        assert multiply_chain(scalars, bytes.fromhex(hop["public_key"])).hex() == shared
        derived = derive_keys(bytes.fromhex(shared))
        assert {name: getattr(derived, name).hex() for name in ("stream_key", "mac_key", "replay_tag")} == {
            name: keys[name] for name in ("stream_key", "mac_key", "replay_tag")
        }
        assert derived.payload_key(case["version"]).hex() == keys["payload_key"]
        scalars.append(derived.blinding_factor)
        assert scalars[-1].hex() == keys["blinding_factor"]
    assert case["packets"][0].startswith(case["header"])
    for number, (hop, packet) in enumerate(zip(case["route"], case["packets"], strict=True)):
        result = process_packet(bytes.fromhex(packet), bytes.fromhex(hop["private_key"]))
        assert result.replay_tag.hex() == case["keys"][number]["replay_tag"]
        if number + 1 < case["hops"]:
            assert result.packet.hex() == case["packets"][number + 1]
            assert result.next_address.hex() == case["route"][number + 1]["address"]
            assert result.delay == int(case["delays"][number])
        else:
            assert result.payload.hex() == case["final_payload"]
            assert (result.destination.hex(), result.identifier.hex()) == (case["destination"], case["identifier"])
    assert case["filler"] == "" or case["packets"][-1][: 348 * 2].endswith(case["filler"])


@pytest.mark.parametrize("case", CASES["sphinx-packets.json"])
def test_packets_are_rebuilt_to_the_byte(case):
    packet = build_packet(bytes.fromhex(case["message"]), size_class=SizeClass[case["size_class"]], **inputs(case))
    assert packet.hex() == case["packets"][0]
    assert case["final_payload"] == case["padded_message"]


@pytest.mark.parametrize("case", CASES["sphinx-surbs.json"])
def test_surbs_are_rebuilt_used_and_opened(case):
    surb, record = SURB.create(**inputs(case), single_seed=case["single_seed"])
    assert (surb.to_bytes().hex(), record.to_bytes().hex()) == (case["surb"], case["record"])
    message = bytes.fromhex(case["message"])
    address, packet = SURB.from_bytes(bytes.fromhex(case["surb"])).use(message, size_class=SizeClass.ACK)
    assert (address.hex(), packet.hex()) == (case["first_hop"], case["packets"][0])
    kept = SURBRecord.from_bytes(bytes.fromhex(case["record"]))
    assert kept.open_packet(bytes.fromhex(case["packets"][-1])) == message
    assert kept.open(bytes.fromhex(case["final_payload"])) == message
    if case["single_seed"]:
        block = bytes.fromhex(case["packets"][-1])[348:]
        for keys in reversed(case["keys"][:-1]):
            block = lioness.encrypt(bytes.fromhex(keys["payload_key"]), block)
        assert lioness.decrypt(bytes.fromhex(case["keys"][-1]["payload_key"]), block).hex() == case["padded_message"]
