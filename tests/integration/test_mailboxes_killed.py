"""kill -9 of the process with the mailboxes, and of the database server, while both work: nothing that was acknowledged
is lost, and nothing comes again once confirming it has finished.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgresql_server import AtOnce, postgresql_server

from twisted.internet.defer import maybeDeferred

from nymtw.storage.mailboxes import SQLiteMailboxes
from nymtw.storage.postgresql import PostgreSQLMailboxes
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.integration
DRIVER = Path(__file__).with_name("mailbox_driver.py")
MAILBOX = b"a" * 32
LIVES = 5


class Witness:
    """What was promised to whom, over the lives of many processes."""

    def __init__(self):
        self.stored, self.pulled, self.gone, self.next = set(), set(), set(), 0

    def hear(self, lines):
        for line in lines:
            verb, *numbers = line.split()
            assert verb in {"ready", "stored", "pulled", "gone", "refused"}, line
            if verb == "stored":
                self.stored.add(int(numbers[0]))
            elif verb == "pulled":
                assert int(numbers[0]) not in self.gone, "it came again after it was confirmed"
                self.pulled.add(int(numbers[1]))
            elif verb == "gone":
                self.gone.add(int(numbers[0]))
        self.next = max([self.next, *self.stored]) + 1000

    def assert_nothing_is_lost(self, there):
        """`there`: (number of the item, what it is) of everything that is left."""
        assert len(self.stored) > 100
        assert len(self.gone) > 100
        assert not self.gone & {number for number, _ in there}
        lost = self.stored - self.pulled - {content for _, content in there}
        assert not lost


class Driver:
    """A process that works, and what it has said so far."""

    def __init__(self, place, first, file):
        self._file = file
        with file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(DRIVER), str(place), str(first)], stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def lines(self):
        return self._file.read_text().splitlines()

    def wait_for(self, verb, more, limit=300.0):
        """Until it has said so many more lines that begin with this."""
        end, before = time.monotonic() + limit, None
        while before is None or self._count(verb) < before + more:
            before = self._count(verb) if before is None else before
            assert self.process.poll() is None, "\n".join(self.lines[-30:])
            assert time.monotonic() < end, "\n".join(self.lines[-30:])
            time.sleep(0.002)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(150)

    def _count(self, verb):
        return sum(line.startswith(verb) for line in self.lines)


@pytest.fixture
def drivers():
    started = []
    yield started
    for driver in started:
        if driver.process.poll() is None:
            driver.kill()


def killed_again_and_again(place, drivers, folder, rng):
    witness = Witness()
    for life in range(LIVES):
        driver = Driver(place, witness.next, folder / f"life {life}")
        drivers.append(driver)
        driver.wait_for("gone", rng.randrange(20, 60))
        time.sleep(rng.uniform(0, 0.01))  # at any moment of a transaction
        driver.kill()
        witness.hear(driver.lines)
    return witness


def numbered(items):
    return [(item.number, int.from_bytes(item.content[:8], "big")) for item in items]


def in_postgresql(url):
    clock = FakeClock()
    store = PostgreSQLMailboxes(url, "nymtw_killed", clock, random=random.Random(1), worker=AtOnce)
    clock.wait_for(maybeDeferred(store.open), 1)
    items = clock.wait_for(store.pull(MAILBOX, 1_000_000, 0), 1)
    clock.wait_for(store.close(), 1)
    return numbered(items)


def test_a_process_with_sqlite_is_killed(drivers, tmp_path, seed):
    path = tmp_path / "mail.sqlite"
    witness = killed_again_and_again(path, drivers, tmp_path, random.Random(seed))
    store = SQLiteMailboxes(path, FakeClock())
    witness.assert_nothing_is_lost(numbered(store.pull(MAILBOX, 1_000_000, 0)))
    store.close()


def test_a_process_with_postgresql_is_killed(drivers, tmp_path, seed):
    with postgresql_server() as server:
        witness = killed_again_and_again(server.url, drivers, tmp_path, random.Random(seed))
        witness.assert_nothing_is_lost(in_postgresql(server.url))


@pytest.mark.parametrize("end", ["kill -9", "immediate"])
def test_the_server_is_killed_and_started_again(end, drivers, tmp_path):
    with postgresql_server() as server:
        driver = Driver(server.url, 0, tmp_path / "said")
        drivers.append(driver)
        for _ in range(3):
            driver.wait_for("gone", 30)
            if end == "kill -9":
                server.kill()
            else:
                server.stop("immediate")
            driver.wait_for("refused", 5)
            server.start()
        driver.wait_for("gone", 30)
        driver.kill()
        witness = Witness()
        witness.hear(driver.lines)
        witness.assert_nothing_is_lost(in_postgresql(server.url))
