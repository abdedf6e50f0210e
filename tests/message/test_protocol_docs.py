"""The layouts in docs/protocol.md: each adds up, and is as long as the code says."""

import re
from pathlib import Path

import pytest

from nymtw.link.control import CONTROL_LIMIT, SLOT_LENGTH
from nymtw.link.frames import HEADER_LENGTH
from nymtw.message import arq
from nymtw.message.envelope import BLOCK_LENGTH, ENVELOPE_OVERHEAD, MAX_BLOCKS, ReplyReceipt
from nymtw.message.fragments import FRAGMENT_LENGTH, REPLY_FRAGMENT_LENGTH
from nymtw.message.payload import ACK_SECTION_LENGTH, PAYLOAD_LENGTH, SEALED_LENGTH
from nymtw.message.reassembly import SHORT, ReassemblyLimits
from nymtw.message.stream import INITIAL_CREDIT, MAX_AHEAD, STREAM_PART, WINDOW, StreamFailure
from nymtw.topology.document import Recommended
from nymtw.topology.presence import CLIENTS_PER_PAGE, MAX_PAGES, MAX_PUBLIC_CLIENTS, MAX_SKEW

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()
LAYOUTS = {
    name: (int(length.replace(",", "")), [[int(cell) for cell in row.split("|")[1:3]] for row in rows.splitlines()])
    for name, length, rows in re.findall(
        r"\*\*(.+?)\*\*, ([\d,]+) bytes:\n\n\| offset \| bytes \| field \|\n\|--:\|--:\|---\|\n((?:\|.*\n)+)", PAGE
    )
}


def test_the_limit_of_a_control_message_is_the_one_of_the_code():
    link = (Path(__file__).resolve().parents[2] / "docs" / "link.md").read_text()
    for page in (PAGE, link):
        [row] = [line for line in page.splitlines() if re.match(r"\|.*\bCONTROL\b.*\|", line)]
        assert re.findall(r"at most ([\d,]+) bytes", row) == [f"{CONTROL_LIMIT:,}"]


def test_every_layout_has_the_length_that_the_code_has():
    assert {name: length for name, (length, _) in LAYOUTS.items()} == {
        "Payload": PAYLOAD_LENGTH,
        "Ack section": ACK_SECTION_LENGTH,
        "Sealed fragment": SEALED_LENGTH,
        "Fragment": FRAGMENT_LENGTH,
        "Reply fragment": REPLY_FRAGMENT_LENGTH,
        "Envelope header": ENVELOPE_OVERHEAD,
        "Receipt header": len(ReplyReceipt.whole(bytes(16), 8).encode()) - 1,
        "Reply block": BLOCK_LENGTH,
        "Frame header": HEADER_LENGTH,
        "Slot": SLOT_LENGTH,
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_adds_up(name):
    length, rows = LAYOUTS[name]
    at = 0
    for offset, size in rows:
        assert offset == at
        at += size
    assert at == length


def test_the_figures_in_the_text_are_those_of_the_code():
    text = " ".join(PAGE.split())
    limits = ReassemblyLimits()
    for figure in (
        f"bounded ({limits.size // 2**20} MiB)",
        f"of at most {SHORT} fragments",
        f"doubled {limits.grace:.0f} seconds ago or less",
        f"after {limits.idle / 60:.0f} minutes without",
        f"and {limits.age / 3600:.0f} hours after",
        f"for {limits.remember / 86400:.0f} days, the newest {limits.remembered:,} of them",
        f"({arq.ROUND_TRIPS} d + {arq.SLACK} s) x {arq.GROWTH}^(n-1), {arq.LONGEST_WAIT:.0f} s)",
        f"After {arq.MAX_ATTEMPTS} transmissions",
        f"at most {MAX_BLOCKS:,}; none without a tag",
        f"at most {MAX_PUBLIC_CLIENTS:,} |",
        f"at most {MAX_PAGES} pages of at most {CLIENTS_PER_PAGE} clients",
        f"differ by {({120: 'two'})[int(MAX_SKEW)]} minutes",
        f"`data` | bytes | both | at most {STREAM_PART:,} bytes",
        f"may send {INITIAL_CREDIT:,} bytes before",
        f"usually {WINDOW // 2**20} MiB beyond",
        f"At most {MAX_AHEAD} messages",
        *(f"| `{failure}` | {failure.socks5} |" for failure in StreamFailure),
        *(f"`{name}` {getattr(Recommended(), name)}" for name in Recommended.__struct_fields__),
    ):
        assert figure in text, figure
