"""What the user sees, on a terminal and in a file."""

import io

from nymtw.localnet.console import Console
from nymtw.localnet.processes import describe_status, tail


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_lines_alone() -> None:
    file = io.StringIO()
    console = Console(file)
    console.show("2 of 11")
    console.progress(1, 2)
    console.write_line("The network is complete:")
    console.end_progress()
    assert file.getvalue() == "The network is complete:\n"


def test_a_terminal_gets_a_line_that_changes() -> None:
    file = Terminal()
    console = Console(file)
    console.show("1 of 2")
    console.show("1 of 2")
    console.show("2 of 2")
    console.write_line("done")
    assert file.getvalue() == "\r\x1b[K1 of 2\r\x1b[K2 of 2\r\x1b[Kdone\n"


def test_the_bar_shows_fragments_rate_and_time_left_and_goes_away() -> None:
    file = Terminal()
    console = Console(file)
    console.progress(0, 200)
    console.progress(50, 200)
    console.bar.refresh()
    shown = file.getvalue()
    assert "50/200" in shown
    assert "fragments/s" in shown
    assert "<" in shown  # tqdm: elapsed<left
    console.write_line("mixnode-1-1 has died")
    assert "mixnode-1-1 has died\n" in file.getvalue()
    console.progress(200, 200)
    assert console.bar is None
    console.end_progress()


def test_a_terminal_that_was_closed_is_no_fault() -> None:
    tried = []

    class Closed(Terminal):
        def write(self, text: str) -> int:
            tried.append(text)
            raise OSError(5, "Input/output error")

    console = Console(Closed())
    console.show("1 of 2")
    console.write_line("done")
    console.progress(0, 2)
    console.progress(2, 2)
    console.end_progress()
    assert any("1 of 2" in text for text in tried)
    assert any("done" in text for text in tried)


def test_how_a_process_ended() -> None:
    assert describe_status(1) == "exit status 1"
    assert describe_status(-9) == "killed by SIGKILL"
    assert describe_status(None) == "still running"


def test_the_end_of_a_log(tmp_path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == []
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(1000)) + b"\xff")
    assert list(tail(log, 3)) == ["line 998", "line 999", "\ufffd"]
