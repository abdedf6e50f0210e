"""Writes the committed corpus: for each target a few inputs that reach its far corners."""

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from fuzz_targets import PRIVATE_KEY  # noqa: E402

from nymtw.sphinx import SURB, Hop, SizeClass, build_packet, generate_keypair, public_key  # noqa: E402


def inputs():
    source = random.Random("nymtw fuzz corpus")
    route = [Hop(source.randbytes(32), public_key(PRIVATE_KEY))]
    route += [Hop(source.randbytes(32), generate_keypair(source)[1]) for _ in range(2)]
    for version in (258, 259):
        for hops in (1, 3):
            made = build_packet(
                b"message", route[:hops], [7] * (hops - 1), bytes(32),
                size_class=SizeClass.ACK, version=version, random=source,
            )  # fmt: skip
            yield "packet", f"whole-{version}-{hops}", b"\0" + made
        for single_seed in (False, True):
            surb, record = SURB.create(
                route, [1, 2], bytes(32), b"identifier 16 by", version=version, single_seed=single_seed, random=source
            )
            yield "surb", f"surb-{version}-{single_seed:d}", b"\0" + surb.to_bytes()
            yield "surb", f"record-{version}-{single_seed:d}", b"\1" + record.to_bytes()
    for name, step in (
        ("forward", "01000103"),
        ("last", "02000103"),
        ("explicit", "01000102"),
        ("later", "02000104"),
        ("refused", "01000101"),
        ("major", "01010103"),
        ("flag", "03000103"),
    ):
        yield "packet", f"step-{name}", b"\1" + bytes.fromhex(step) + source.randbytes(60)
    yield "packet", "low-order", bytes(387)
    yield "packet", "non-canonical", b"\0" + b"\xff" * 386
    yield "packet", "empty", b""
    yield "surb", "short", bytes(380)


if __name__ == "__main__":
    for target, name, data in inputs():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
