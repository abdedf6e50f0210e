"""How fast `nymtw.sphinx` is, beside its floor, the sphinx-packet crate and sphinxmix, all in one run on one core.

Needs cargo and `pip install sphinxmix`. Prints a table and the bars, writes JSON, and exits 1 where a bar is missed.
Each measure is taken in many short rounds that take turns, so that a busy machine slows all alike; the best counts.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from comparison import Row, RustProgram, best_of, print_ratios, ratios_object, rust_version
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from machine import processor
from nacl.bindings import crypto_scalarmult

from nymtw.sphinx import GEOMETRIES, Hop, SizeClass, Unwrapper, build_packet, generate_keypair
from nymtw.sphinx.header import header_mac, open_beta
from nymtw.sphinx.keys import cut_keys, expand_seed
from nymtw.sphinx.streams import chacha20

HERE = Path(__file__).resolve().parent
INTEROP = HERE.parent / "tests" / "interop"
SEED = 2009
BATCH = 50
CRATES = {"0.6.0": [], "0.8.0": ["--features", "newest"]}


def timed(operation: Callable[[], object], count: int = BATCH) -> Callable[[], float]:
    """A measure: the seconds of one `operation`, of `count` in a row."""

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(count):
            operation()
        return (time.perf_counter() - started) / count

    return measure


def sphinxmix_unwrap() -> tuple[Callable[[], object], Callable[[], object]]:
    """One hop of sphinxmix with X25519, its LIONESS and a body of 2 KiB: from bytes to bytes, and its core alone."""
    from sphinxmix.SphinxClient import (
        Nenc,
        PFdecode,
        create_forward_message,
        pack_message,
        rand_subset,
        unpack_message,
    )
    from sphinxmix.SphinxNode import sphinx_process
    from sphinxmix.SphinxParams import SphinxParams
    from sphinxmix.SphinxParamsC25519 import Group_C25519

    params = SphinxParams(group=Group_C25519(), header_len=192, body_len=2048)
    secrets = {}
    publics = {}
    for number in range(5):
        secrets[number] = params.group.gensecret()
        publics[number] = params.group.expon_base([secrets[number]])
    use = rand_subset(list(publics), 5)
    header, body = create_forward_message(
        params, [Nenc(number) for number in use], [publics[number] for number in use], b"bob", b"message"
    )
    known = {(params.max_len, params.m): params}
    packet = pack_message(params, (header, body))
    secret = secrets[use[0]]

    def whole() -> tuple[object, bytes]:
        found, (head, block) = unpack_message(known, packet)
        _, routing, onward, _ = sphinx_process(found, secret, head, block)
        return PFdecode(found, routing), pack_message(found, onward)

    return whole, lambda: sphinx_process(params, secret, header, body)


def parts() -> dict[str, tuple[int, Callable[[], float]]]:
    """What an unwrap of a regular packet is made of: how often each is done, and the seconds of one."""
    source = random.Random(SEED)
    key_object, point = X25519PrivateKey.from_private_bytes(source.randbytes(32)), generate_keypair(source)[1]
    secret, beta, body = source.randbytes(32), source.randbytes(300), source.randbytes(2033)
    key16, key64 = secret[:16], secret * 2
    return {
        "X25519 with the kept key (cryptography)": (
            1,
            timed(lambda: key_object.exchange(X25519PublicKey.from_public_bytes(point))),
        ),
        "X25519 with the blinding factor (PyNaCl)": (1, timed(lambda: crypto_scalarmult(secret, point))),
        "HKDF, 288 bytes": (1, timed(lambda: cut_keys(secret))),
        "HKDF, 192 bytes (v259 alone)": (1, timed(lambda: expand_seed(key16))),
        "HMAC over beta": (1, timed(lambda: header_mac(key16, beta))),
        "AES-CTR over beta": (1, timed(lambda: open_beta(key16, beta))),
        "ChaCha20 over the payload": (2, timed(lambda: chacha20(secret, body))),
        "BLAKE2b over the payload": (2, timed(lambda: blake2b(body, key=key64, digest_size=32).digest())),
    }


def measures(rust: dict[str, RustProgram]) -> dict[str, Callable[[], float]]:
    """Every measure by its name, each answering the seconds of one operation."""
    source = random.Random(SEED)
    keys = [generate_keypair(source) for _ in range(4)]
    route = [Hop(source.randbytes(32), public) for _, public in keys]
    delays = [source.randrange(10**9) for _ in range(3)]
    destination, message = source.randbytes(32), source.randbytes(2048)
    geometry = GEOMETRIES[SizeClass.REGULAR]
    key_object, scalar, point = X25519PrivateKey.from_private_bytes(keys[0][0]), source.randbytes(32), keys[1][1]

    def floor() -> None:
        key_object.exchange(X25519PublicKey.from_public_bytes(point))
        crypto_scalarmult(scalar, point)

    def creator(hops: int, number: int) -> Callable[[], bytes]:
        return lambda: build_packet(message, route[:hops], delays[: hops - 1], destination, version=number)

    def unwrapper(packet: bytes) -> Callable[[], float]:
        node, batch = Unwrapper({0: keys[0][0]}), [(0, packet)] * BATCH
        one_batch = timed(lambda: node.unwrap_many(batch), 1)
        return lambda: one_batch() / BATCH

    def rust_measure(release: str, request: str) -> Callable[[], float]:
        return lambda: rust[release].seconds(request)

    whole, core = sphinxmix_unwrap()
    table = {
        "floor: two bare X25519": timed(floor),
        "unwrap, sphinxmix": timed(whole),
        "unwrap, sphinxmix, sphinx_process alone": timed(core),
    }
    hops = ",".join(f"{hop.address.hex()}:{hop.public_key.hex()}" for hop in route)
    for number in (258, 259):
        packet = build_packet(message, route, delays, destination, version=number, random=source)
        table[f"unwrap, v{number}"] = unwrapper(packet)
        table[f"create 4 hops, v{number}"] = timed(creator(4, number))
        table[f"create 1 hop, v{number}"] = timed(creator(1, number))
        for release in rust:
            table[f"unwrap, v{number}, sphinx-packet {release}"] = rust_measure(
                release, f"bench-process {BATCH} {keys[0][0].hex()} {packet.hex()}"
            )
            table[f"create 4 hops, v{number}, sphinx-packet {release}"] = rust_measure(
                release,
                f"bench-build {BATCH} {number} {geometry.payload_length} {message.hex()} {hops} "
                f"{','.join(map(str, [*delays, 0]))} {destination.hex()} {bytes(16).hex()}",
            )
    return table


def bars(best: dict[str, float]) -> list[Row]:
    """(what is compared, its ratio, the bar, whether it is met)."""
    rows = []

    def row(what: str, ratio: float, limit: float, at_most: bool = False) -> None:
        met = ratio <= limit if at_most else ratio >= limit
        rows.append((what, ratio, f"{'at most' if at_most else 'at least'} {limit} x", met))

    row("unwrap v258 / floor", best["unwrap, v258"] / best["floor: two bare X25519"], 1.6, at_most=True)
    for number in (258, 259):
        for release in CRATES:
            ours, theirs = best[f"unwrap, v{number}"], best[f"unwrap, v{number}, sphinx-packet {release}"]
            row(f"unwrap v{number}: faster than sphinx-packet {release}", theirs / ours, 1.0)
    for number in (258, 259):
        row(f"unwrap v{number}: faster than sphinxmix", best["unwrap, sphinxmix"] / best[f"unwrap, v{number}"], 1.3)
    for number in (258, 259):
        for release in CRATES:
            ours = best[f"create 4 hops, v{number}"]
            theirs = best[f"create 4 hops, v{number}, sphinx-packet {release}"]
            row(f"create 4 hops v{number}: faster than sphinx-packet {release}", theirs / ours, 1.0)
    row("create v259, 4 hops / 1 hop", best["create 4 hops, v259"] / best["create 1 hop, v259"], 3.8, at_most=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each measure (default: 40)")
    parser.add_argument("--json", type=Path, default=HERE / "sphinx.json", help="where the result goes")
    arguments = parser.parse_args()

    rust = {
        release: RustProgram(INTEROP, "sphinx-interop", INTEROP / "target" / release, options)
        for release, options in CRATES.items()
    }
    if hasattr(os, "sched_setaffinity"):
        core = {max(os.sched_getaffinity(0))}
        for process in (0, *(program.process.pid for program in rust.values())):
            os.sched_setaffinity(process, core)
    table, pieces = measures(rust), parts()
    best = best_of(table | {name: measure for name, (_, measure) in pieces.items()}, arguments.rounds)
    for program in rust.values():
        program.close()

    machine = {
        "processor": processor(),
        "python": platform.python_version(),
        "cryptography": f"{version('cryptography')} ({backend.openssl_version_text()})",
        "pynacl": version("pynacl"),
        "sphinxmix": version("sphinxmix"),
        "rustc": rust_version(),
    }
    rows = bars(best)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    print(f"\nregular packet, best of {arguments.rounds} rounds of {BATCH}, one core\n")
    print("| measure | us | a second |\n|---|--:|--:|")
    for name in sorted(table):
        print(f"| {name} | {best[name] * 1e6:.1f} | {1 / best[name]:,.0f} |")
    print_ratios(rows)
    print("\n| an unwrap of v259 is made of | us |\n|---|--:|")
    for name, (times, _) in pieces.items():
        print(f"| {f'{times} x ' if times > 1 else ''}{name} | {times * best[name] * 1e6:.1f} |")
    rest = best["unwrap, v259"] - sum(times * best[name] for name, (times, _) in pieces.items())
    print(f"| all else: slices, checks, objects, Python | {rest * 1e6:.1f} |")
    result = {
        "machine": machine,
        "rounds": arguments.rounds,
        "seconds": best,
        "ratios": ratios_object(rows),
    }
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
