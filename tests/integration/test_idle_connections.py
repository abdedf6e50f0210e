"""Ten thousand idle connections over real sockets: the directory goes on, spends little on them, and ends them."""

import contextlib
import re
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_directory_faults import free_port, get, start

from nymtw.web.http import IDLE_TIMEOUT

pytestmark = pytest.mark.integration
MANY = 10_000
MOST_MEMORY = 16 * 2**10  # bytes of the directory for each of them


@pytest.fixture
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MANY + 200:
        pytest.skip(f"{MANY + 200} file descriptors are needed, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(process: int) -> int:
    """Bytes resident."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def open_at(port: int) -> socket.socket:
    """A connection on which nothing is asked."""
    for _ in range(20):
        with contextlib.suppress(TimeoutError, ConnectionError):
            return socket.create_connection(("127.0.0.1", port), timeout=50)
    raise AssertionError("the directory takes no connection")


@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_idle_connections(tmp_path: Path) -> None:
    port = free_port()
    process = start(tmp_path, port)
    idle: list[socket.socket] = []
    try:
        before = memory(process.pid)
        for _ in range(MANY):
            idle.append(open_at(port))
        # With all of them there, and in the place of some, everybody is answered.
        for _ in range(50):
            assert b"true" in get(port, "/api/healthcheck")
        assert memory(process.pid) - before < MANY * MOST_MEMORY
        poll = select.poll()
        for each in idle:
            poll.register(each, select.POLLIN)
        ended: set[int] = set()
        end = time.monotonic() + IDLE_TIMEOUT + 30
        while len(ended) < MANY and time.monotonic() < end:
            for descriptor, _ in poll.poll(1000):
                poll.unregister(descriptor)
                ended.add(descriptor)
        assert len(ended) == MANY, "some are still there a minute later"
        for each in idle:
            each.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        assert b"true" in get(port, "/api/healthcheck")
    finally:
        for each in idle:
            each.close()
        process.kill()
        process.wait()
