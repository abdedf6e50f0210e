"""SIGKILL at every statement that SQLite is given, one after the other: no acknowledged item is lost, and none comes
back once confirming it has finished.
"""

import os
import signal
import sqlite3

import pytest

from nymtw.storage.mailboxes import SQLiteMailboxes, open_database
from nymtw.testing.clock import FakeClock

ALICE = b"a" * 32


def use_store(path, clock, report, tell_of_statement):
    """A short life of a store: what is promised is reported at once."""
    database = open_database(path)
    store = SQLiteMailboxes(path, clock, connect=lambda path: database)
    database.set_trace_callback(tell_of_statement)
    store.register(ALICE, b"k" * 32, b"t" * 32).addCallback(lambda _: report("registered"))
    clock.advance(0.01)
    for batch in ((1, 2, 3), (4, 5), (6,)):
        for name in batch:
            store.store(ALICE, 1, b"%d" % name).addCallback(lambda _, name=name: report(f"stored {name}"))
        clock.advance(0.01)
        # The first that is there is confirmed while the next are stored.
        [item] = store.pull(ALICE, 1, 0)
        report(f"confirming {item.content.decode()}")
        store.confirm(ALICE, [item.number]).addCallback(lambda _, name=item.content.decode(): report(f"gone {name}"))
    clock.advance(0.01)
    store.close()


def life_that_ends_at(statement, path):
    """What was said in a process of its own, until it was killed at this statement, and whether it was."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def count(_):
            nonlocal seen
            seen += 1
            if seen == statement:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            use_store(path, FakeClock(), lambda words: os.write(writes, words.encode() + b"\n"), count)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        output = pipe.read().split("\n")[:-1]
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return output, os.WIFSIGNALED(status)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_any_statement(tmp_path):
    statement, killed = 0, True
    while killed:
        statement += 1
        path = tmp_path / f"{statement}.sqlite"
        output, killed = life_that_ends_at(statement, path)
        store = SQLiteMailboxes(path, FakeClock())
        there = [item.content.decode() for item in store.pull(ALICE, 100, 0)]
        registered = store.find(ALICE) is not None
        store.close()
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        told = {
            verb: {line.split()[1] for line in output if line.startswith(verb)}
            for verb in ("stored", "confirming", "gone")
        }
        assert registered or "registered" not in output
        assert told["stored"] - told["confirming"] <= set(there), output
        assert not told["gone"] & set(there), output
        assert len(there) == len(set(there))
    assert statement > 20  # every INSERT, DELETE, BEGIN and COMMIT of that life
    assert there == ["4", "5", "6"]
