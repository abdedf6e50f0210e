"""Writes sphinx-packets.json and sphinx-surbs.json, the same to the byte each time. README.md describes the fields."""

import json
import random
from pathlib import Path

from nymtw.sphinx import GEOMETRIES, SURB, Geometry, Hop, SizeClass, build_packet, generate_keypair, process_packet
from nymtw.sphinx.header import build_header
from nymtw.sphinx.payload import pad_message

HERE = Path(__file__).resolve().parent
VERSIONS = (258, 259)


def draw_route(source, hops):
    """Key pairs, a route over them, and everything else that a header is made of."""
    keys = [generate_keypair(source) for _ in range(hops)]
    return {
        "privates": [private for private, _ in keys],
        "route": [Hop(source.randbytes(32), public) for _, public in keys],
        "delays": [source.getrandbits(64) for _ in range(hops - 1)],
        "destination": source.randbytes(32),
        "identifier": source.randbytes(16),
        "secret": source.randbytes(32),
        "padding": source.randbytes(Geometry.header_padding_length(hops)),
    }


def describe(drawn, version):
    """The inputs of a header, and every value on the way to it."""
    built = build_header(
        drawn["route"], drawn["delays"], drawn["destination"], drawn["identifier"], version, drawn["secret"],
        drawn["padding"],
    )  # fmt: skip
    return {
        "route": [
            {"address": hop.address.hex(), "public_key": hop.public_key.hex(), "private_key": private.hex()}
            for hop, private in zip(drawn["route"], drawn["privates"], strict=True)
        ],
        "delays": [str(delay) for delay in drawn["delays"]],
        **{name: drawn[name].hex() for name in ("destination", "identifier", "secret", "padding")},
        "shared_secrets": [secret.hex() for secret in built.shared_secrets],
        "keys": [
            {
                "stream_key": keys.stream_key.hex(),
                "mac_key": keys.mac_key.hex(),
                "payload_secret": keys.payload_secret(version).hex(),
                "payload_key": keys.payload_key(version).hex(),
                "blinding_factor": keys.blinding_factor.hex(),
                "replay_tag": keys.replay_tag.hex(),
            }
            for keys in built.keys
        ],
        "filler": built.filler.hex(),
        "header": built.header.hex(),
    }


def walk(packet, privates):
    """The packet as each hop receives it, and the payload block that the last one has decrypted."""
    packets = [packet.hex()]
    for private in privates[:-1]:
        packet = process_packet(packet, private).packet
        packets.append(packet.hex())
    return {"packets": packets, "final_payload": process_packet(packet, privates[-1]).payload.hex()}


def packets():
    source = random.Random("nymtw sphinx packets")
    for size_class in (SizeClass.REGULAR, SizeClass.ACK):
        geometry = GEOMETRIES[size_class]
        for version in VERSIONS:
            for hops in range(1, 6):
                drawn = draw_route(source, hops)
                message = source.randbytes(source.randrange(geometry.plaintext_length + 1))
                made = {name: drawn[name] for name in drawn if name != "privates"}
                packet = build_packet(message, **made, size_class=size_class, version=version)
                yield {
                    "version": version,
                    "hops": hops,
                    "size_class": size_class.name,
                    **describe(drawn, version),
                    "message": message.hex(),
                    "padded_message": pad_message(message, geometry).hex(),
                    **walk(packet, drawn["privates"]),
                }


def surbs():
    source = random.Random("nymtw sphinx surbs")
    geometry = GEOMETRIES[SizeClass.ACK]
    for single_seed in (False, True):
        for version in VERSIONS:
            for hops in range(1, 6):
                drawn = draw_route(source, hops)
                message = source.randbytes(source.randrange(geometry.plaintext_length + 1))
                made = {name: drawn[name] for name in drawn if name != "privates"}
                surb, record = SURB.create(**made, version=version, single_seed=single_seed)
                first_hop, packet = surb.use(message, size_class=SizeClass.ACK)
                yield {
                    "version": version,
                    "hops": hops,
                    "single_seed": single_seed,
                    "size_class": SizeClass.ACK.name,
                    **describe(drawn, version),
                    "surb": surb.to_bytes().hex(),
                    "record": record.to_bytes().hex(),
                    "first_hop": first_hop.hex(),
                    "message": message.hex(),
                    "padded_message": pad_message(message, geometry).hex(),
                    **walk(packet, drawn["privates"]),
                }


FILES = {"sphinx-packets.json": packets, "sphinx-surbs.json": surbs}


def text(cases):
    """The file for `cases`: one line for each field, so that a change shows where it is."""
    return json.dumps({"about": "see README.md beside this file", "cases": list(cases)}, indent=1) + "\n"


if __name__ == "__main__":
    for name, cases in FILES.items():
        (HERE / name).write_text(text(cases()))
