"""Every frame of `tests/vectors/link-frames.json` is what this code writes, and is read back."""

import json
from pathlib import Path

import pytest

from nymtw.link import control
from nymtw.link.control import MailItem
from nymtw.link.frames import (
    KEEPALIVE_FRAME,
    FrameParser,
    FrameType,
    encode_packet,
    encode_submit,
)

pytestmark = pytest.mark.pythons

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "link-frames.json").read_text())
KEY, TOKEN, SIGNATURE = (bytes([byte]) * length for byte, length in ((0x6B, 32), (0x74, 32), (0x73, 64)))
PACKET = bytes(index % 251 for index in range(386))
WRITTEN = {
    "keepalive": KEEPALIVE_FRAME,
    "packet": encode_packet(0x01020304, PACKET),
    "submit": encode_submit(b"\xaa" * 32, 7, PACKET),
    "register": control.encode_control(control.Register(KEY, SIGNATURE)),
    "registered": control.encode_control(control.Registered(TOKEN)),
    "login": control.encode_control(control.Login(KEY, TOKEN, SIGNATURE)),
    "logged-in": control.encode_control(control.LoggedIn(16)),
    "login-with-credential": control.encode_control(control.Login(KEY, TOKEN, SIGNATURE, credential=b"\x63" * 8)),
    "logged-in-pushed": control.encode_control(control.LoggedIn(2, True)),
    "logged-in-at-once": control.encode_control(control.LoggedIn(1, True, True)),
    "refused": control.encode_control(control.Refused("no")),
    "pull": control.encode_pull([1, 2**40], 4),
    "mail": control.encode_mail([MailItem(1, 2, b"\x11" * 21)], 2),
}


def read(entry):
    """The bytes: hexadecimal, followed by so many zeros."""
    return bytes.fromhex(entry["hex"]) + bytes(entry.get("zeros", 0))


def test_each_frame_is_in_the_file():
    assert VECTORS.keys() == WRITTEN.keys()


@pytest.mark.parametrize("name", list(WRITTEN))
def test_known_frames(name):
    assert WRITTEN[name] == read(VECTORS[name])
    [frame] = FrameParser(tuple(FrameType), 10_000).feed(read(VECTORS[name]))
    assert frame.type == VECTORS[name]["type"]
    assert frame.epoch == VECTORS[name].get("epoch", 0)
    assert frame.size_class == VECTORS[name].get("size_class", 0)
