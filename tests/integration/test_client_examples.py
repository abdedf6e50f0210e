"""The programs in `examples/client`, each run against one network as its docstring says."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "client"


@pytest.mark.parametrize("path", [path for path in EXAMPLES.iterdir() if path.is_file()], ids=lambda path: path.name)
def test_each_is_under_80_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80


def test_the_echo_bot_answers_senders_whom_it_never_learns(mixnet: Any) -> None:
    mixnet.make_client("echo")
    bot = mixnet.start(sys.executable, EXAMPLES / "echo.py", "echo")
    address = bot.wait_for("Echoing messages to (.+)")[1]
    ask = mixnet.nym_client("send", address, "--surbs", "3", "--socket", "tcp", "--port", str(mixnet.alice))
    ask.write_line("is there anybody?")
    ask.end_input()
    assert ask.wait() == 0, ask.output
    assert "delivered in" in ask.output
    bot.wait_for("echoed 18 bytes")
    answer = mixnet.nym_client("receive", "--follow", "--socket", "tcp", "--port", str(mixnet.alice))
    answer.wait_for("^is there anybody\\?$")
    unanswerable = mixnet.nym_client("send", address, "--socket", "tcp", "--port", str(mixnet.alice))
    unanswerable.end_input()
    bot.wait_for("not echoed: the sender of this message gave no way to reply")
    bot.process.send_signal(signal.SIGINT)
    assert bot.wait() != 0
    assert "KeyboardInterrupt" in bot.output


def test_a_file_is_transferred(mixnet: Any, tmp_path: Path) -> None:
    file, folder = tmp_path / "pictures.tar", tmp_path / "arrived"
    content = os.urandom(150_000)
    file.write_bytes(content)
    folder.mkdir()
    receiver = mixnet.start(sys.executable, EXAMPLES / "transfer.py", "receive", str(mixnet.bob), folder)
    address = mixnet.details(mixnet.bob)["address"]
    sender = mixnet.start(sys.executable, EXAMPLES / "transfer.py", "send", str(mixnet.alice), address, file)
    assert sender.wait() == 0, sender.output
    assert re.fullmatch(r"(\d+) of \1 fragments: done", sender.lines[-1])
    receiver.wait_for(r"received .*pictures\.tar \(150000 bytes\)")
    assert (folder / "pictures.tar").read_bytes() == content
    receiver.stop()
    wrong = mixnet.start(sys.executable, EXAMPLES / "transfer.py", "send", str(mixnet.alice), address[:-1] + "1", file)
    assert wrong.wait() == 1
    assert "it has a typing error" in wrong.output


def test_two_people_chat_by_aliases_that_are_kept(mixnet: Any) -> None:
    for name in ("ann", "ben"):
        mixnet.make_client(name)
    ann, ben = (mixnet.start(sys.executable, EXAMPLES / "chat.py", name) for name in ("ann", "ben"))
    to_ann, to_ben = (chat.wait_for("You are (.+)")[1] for chat in (ann, ben))
    ann.write_line(f"/alias ben {to_ben}")
    ann.write_line("nobody is written to yet")
    ann.wait_for("^an address is <mailbox>")
    ann.write_line("ben: hello, are you there?")
    ben.wait_for(re.escape(f"{to_ann[:12]}> 'hello, are you there?'"))
    ben.write_line(f"/alias ann {to_ann}")
    ben.write_line("ann: I am")
    ann.wait_for("^ben> 'I am'$")
    ann.write_line("and still?")
    ben.wait_for(r"^ann> 'and still\?'$")
    for chat in (ann, ben):
        chat.end_input()
        assert chat.wait() == 0, chat.output
    again = mixnet.start(sys.executable, EXAMPLES / "chat.py", "ben")
    again.wait_for("You are " + re.escape(to_ben))
    again.write_line("ann: good night")
    later = mixnet.start(sys.executable, EXAMPLES / "chat.py", "ann")
    later.wait_for("^ben> 'good night'$")


def test_bash_sends_with_nothing_but_itself(mixnet: Any) -> None:
    address = mixnet.details(mixnet.bob)["address"]
    program = mixnet.start("bash", EXAMPLES / "send.sh", str(mixnet.alice), address)
    program.write_line("sent by bash")
    program.end_input()
    assert program.wait() == 0, program.output
    assert program.lines[-1] == "delivered"
    received = mixnet.nym_client("receive", "--follow", "--socket", "tcp", "--port", str(mixnet.bob))
    received.wait_for("^sent by bash$")
    received.stop()
    program = mixnet.start("bash", EXAMPLES / "send.sh", str(mixnet.alice), "nowhere")
    program.end_input()
    assert program.wait() == 1
    assert '{"exception"' in program.output
