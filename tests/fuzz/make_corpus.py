"""Writes the committed corpus: for each target a few inputs that reach its far corners."""

import json
import random
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from fuzz_targets import PARSERS, PRIVATE_KEY  # noqa: E402

from nymtw.credentials.wire import Kind  # noqa: E402
from nymtw.errors import EncodingError  # noqa: E402
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


def credentials():
    """One object of each type, out of the known answers."""
    found = {}

    def look(value):
        if isinstance(value, (dict, list)):
            for each in value.values() if isinstance(value, dict) else value:
                look(each)
        elif isinstance(value, str) and len(value) % 2 == 0 and re.fullmatch("[0-9a-f]{60,}", value):
            data = bytes.fromhex(value)
            try:
                PARSERS[data[0]](data)
            except (KeyError, EncodingError):
                return
            found.setdefault(data[0], data)

    for path in sorted((HERE.parent / "vectors").glob("credentials-*.json")):
        look(json.loads(path.read_text()))
    for kind, data in found.items():
        yield "credential", Kind(kind).name.lower(), data
    yield "credential", "no_type", b"\xff"
    yield "credential", "infinity", bytes([Kind.TRANSPORT_KEY, 0xC0]) + bytes(47)


if __name__ == "__main__":
    for target, name, data in [*inputs(), *credentials()]:
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
