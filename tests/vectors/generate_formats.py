"""Writes the known answers of nymtw's own formats, the same to the byte each time. FORMATS.md describes the fields.

Run `python tests/vectors/generate_formats.py` after a format was changed on purpose.
"""

import json
import random
from pathlib import Path

import msgspec
from nacl.signing import SigningKey

from nymtw.encoding import key_text
from nymtw.message.envelope import Envelope, EnvelopeKind, ReplyBlock, ReplyReceipt, encode_request
from nymtw.message.fragments import FragmentKind, fragment, loop_fragment
from nymtw.message.payload import AckSection, join_payload
from nymtw.message.sealing import seal
from nymtw.message.stream import StreamFailure, StreamMessage, StreamOpen
from nymtw.sphinx import SURB, Hop, generate_keypair
from nymtw.topology.address import Address, mailbox_id
from nymtw.topology.document import NodeRecord, PublicClient, Recommended, Topology, Trust, sign_topology
from nymtw.topology.presence import Heartbeat, make_heartbeat, make_metric

HERE = Path(__file__).resolve().parent
TIME = 1_700_000_000_000_000_000


class Given(random.Random):
    """A source of randomness that gives out what it was given."""

    def __init__(self, data):
        super().__init__(0)
        self.data = data

    def randbytes(self, n):
        drawn, self.data = self.data[:n], self.data[n:]
        assert len(drawn) == n
        return drawn


def payload(source):
    ack = AckSection(
        source.getrandbits(32),
        source.randbytes(32),
        source.getrandbits(64),
        source.randbytes(348),
        source.randbytes(38),
        source.randbytes(38),
    )
    sealed = source.randbytes(1580)
    return {
        "ack_section": {
            "epoch": ack.epoch,
            "first_hop": ack.first_hop.hex(),
            "delay": str(ack.delay),
            "header": ack.header.hex(),
            "stored": ack.stored.hex(),
            "refused": ack.refused.hex(),
            "encoded": ack.encode().hex(),
        },
        "sealed": sealed.hex(),
        "payload": join_payload(ack, sealed).hex(),
    }


def sealing(source):
    cases = []
    for length in (0, 1, 1532):
        private, public = generate_keypair(source)
        plaintext, ephemeral = source.randbytes(length), source.randbytes(32)
        cases.append(
            {
                "private_key": private.hex(),
                "public_key": public.hex(),
                "ephemeral_private_key": ephemeral.hex(),
                "plaintext": plaintext.hex(),
                "sealed": seal(plaintext, public, Given(ephemeral)).hex(),
            }
        )
    return cases


def fragments(source):
    cases = []
    for kind, length, numbers in (
        (FragmentKind.MESSAGE, 0, [0]),
        (FragmentKind.MESSAGE, 5, [0]),
        (FragmentKind.MESSAGE, 1508, [0]),
        (FragmentKind.MESSAGE, 1509, [0, 1]),
        (FragmentKind.MESSAGE, 400_000, [0, 254, 255, 258]),
        (FragmentKind.REPLY, 2024, [0]),
        (FragmentKind.REPLY, 2025, [0, 1]),
    ):
        message = bytes(at * at % 251 for at in range(length))
        cut = fragment(message, source.randbytes(16), kind)
        cases.append(
            {
                "kind": int(kind),
                "message_id": cut.message_id.hex(),
                "total": length,
                "count": len(cut),
                "encoded": {str(number): cut[number].encode().hex() for number in numbers},
            }
        )
    loop = loop_fragment(source.randbytes(16))
    cases.append(
        {
            "kind": int(loop.kind),
            "message_id": loop.message_id.hex(),
            "total": 0,
            "count": 1,
            "encoded": {"0": loop.encode().hex()},
        }
    )
    return cases


def envelopes(source):
    hops = [Hop(source.randbytes(32), generate_keypair(source)[1]) for _ in range(5)]
    surb, _ = SURB.create(hops, [1, 2, 3, 4], bytes(32), source.randbytes(16), single_seed=True, random=source)
    block = ReplyBlock(source.getrandbits(32), surb.to_bytes())
    tag, message_id = source.randbytes(16), source.randbytes(16)
    receipt = ReplyReceipt(message_id, 11, b"\xfe\x05")
    cases = [
        Envelope(),
        Envelope(data=b"Hello, Bob."),
        Envelope(data=b"Answer me.", tag=tag, blocks=(block, block)),
        Envelope(EnvelopeKind.BLOCKS, tag=tag, blocks=(block,)),
        Envelope(EnvelopeKind.RECEIPT, receipt.encode(), tag, (block,)),
        Envelope(EnvelopeKind.REQUEST, encode_request(300)),
    ]
    return [
        {
            "kind": int(one.kind),
            "tag": one.tag.hex() if one.tag else None,
            "blocks": [{"epoch": each.epoch, "surb": each.surb.hex()} for each in one.blocks],
            "data": one.data.hex(),
            "encoded": one.encode().hex(),
        }
        for one in cases
    ]


def addresses(source):
    cases = []
    for leading in (0, 0, 1):  # a leading zero byte is a leading "1" in base58
        network, mailbox_key = source.randbytes(16), source.randbytes(32)
        provider = bytes(leading) + source.randbytes(32 - leading)
        address = Address(mailbox_id(mailbox_key), generate_keypair(source)[1], provider)
        cases.append(
            {
                "network": network.hex(),
                "mailbox_key": mailbox_key.hex(),
                "mailbox": address.mailbox.hex(),
                "encryption_key": address.encryption_key.hex(),
                "provider": address.provider.hex(),
                "text": address.encode(network),
            }
        )
    return cases


def topology(source):
    directories = sorted((SigningKey(source.randbytes(32)) for _ in range(2)), key=lambda key: bytes(key.verify_key))
    trust = Trust(tuple(bytes(key.verify_key) for key in directories), threshold=2)

    def node(role, port, layer=0, client_port=0):
        return NodeRecord(
            role=role,
            identity=source.randbytes(32),
            host="192.0.2.1",
            port=port,
            layer=layer,
            client_port=client_port,
            sphinx_keys={19675: generate_keypair(source)[1], 19676: generate_keypair(source)[1]},
        )

    nodes = (*(node("mixnode", 1789 + layer, layer) for layer in (1, 2, 3)), node("provider", 1793, client_port=9000))
    address = Address(source.randbytes(32), generate_keypair(source)[1], nodes[3].identity).encode(trust.network)
    made = Topology(
        serial=7,
        network=trust.network,
        published=TIME,
        valid_until=TIME + 180_000_000_000,
        refresh=60.0,
        epoch=19675,
        epoch_seconds=86400,
        recommended=Recommended(message_sending_rate=100.0),
        nodes=nodes,
        clients=(PublicClient(address=address, provider=nodes[3].identity),),
        minimum_client_version="0.1.0",
    )
    return {
        "directories": [bytes(key.verify_key).hex() for key in directories],
        "signing_keys": [bytes(key).hex() for key in directories],
        "threshold": 2,
        "network": trust.network.hex(),
        "readable": json.loads(msgspec.json.encode(_readable(made))),
        "signed": sign_topology(made, directories).hex(),
    }


def _readable(value):
    """`value` with bytes as hexadecimal and numbers that JSON loses as text."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))

    def convert(one):
        if isinstance(one, bytes):
            return one.hex()
        if isinstance(one, dict):
            return {str(key): convert(each) for key, each in one.items()}
        if isinstance(one, (list, tuple)):
            return [convert(each) for each in one]
        return str(one) if isinstance(one, int) and one > 2**53 else one

    return convert(plain)


def posts(source):
    signing_key = SigningKey(source.randbytes(32))
    identity = bytes(signing_key.verify_key)
    address = Address(source.randbytes(32), generate_keypair(source)[1], identity).encode(source.randbytes(16))

    client = PublicClient(address=address, provider=identity)

    def heartbeat(role, clients=(), number=0, **fields):
        keys = {19675: source.randbytes(32), 19676: source.randbytes(32)}
        place = {"host": "192.0.2.7", "port": 1789}
        record = NodeRecord(role=role, identity=identity, sphinx_keys=keys, **place, **fields)
        return make_heartbeat(Heartbeat(record, clients, number, TIME, "0.1.0"), signing_key)

    return {
        "signing_key": bytes(signing_key).hex(),
        "identity": key_text(identity),
        "time": str(TIME),
        "heartbeats": [
            heartbeat("mixnode", layer=2),
            heartbeat("provider", (client,), 12, client_port=9000),
            heartbeat("gateway", number=3, client_port=9000),
        ],
        "metric": make_metric(
            public_key=source.randbytes(32), sent=40, received=41, timestamp=TIME, signing_key=signing_key
        ),
    }


def streams(source):
    stream = source.randbytes(16)
    messages = [
        StreamMessage(stream=stream, open=StreamOpen(host="www.example.org", port=443), data=b"hello", credit=2**20),
        StreamMessage(stream=stream, opened=True, credit=2**20),
        StreamMessage(stream=stream, failed=StreamFailure.NAME_UNKNOWN),
        StreamMessage(stream=stream, number=300, opened=True, data=source.randbytes(40), end=True),
        StreamMessage(stream=stream, number=2**32 - 1, credit=2**40),
        StreamMessage(stream=stream, reset=True),
    ]
    return [
        {"message": msgspec.json.decode(msgspec.json.encode(plain)), "encoded": message.encode().hex()}
        for message in messages
        for plain in [
            {
                key: value.hex() if isinstance(value, bytes) else value
                for key, value in msgspec.to_builtins(message, builtin_types=(bytes,)).items()
            }
        ]
    ]


FILES = {
    "payload.json": payload,
    "sealing.json": sealing,
    "fragments.json": fragments,
    "envelopes.json": envelopes,
    "addresses.json": addresses,
    "topology.json": topology,
    "posts.json": posts,
    "streams.json": streams,
}


def generate(name):
    """The text of one file."""
    return json.dumps(FILES[name](random.Random(name)), indent=1) + "\n"


if __name__ == "__main__":
    for name in FILES:
        (HERE / name).write_text(generate(name))
