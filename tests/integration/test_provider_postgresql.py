"""`nym-provider run --store postgresql://...` as its operator starts it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql_server import PostgreSQLServer, postgresql_server
from test_node_signals import Running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with postgresql_server() as server:
        yield server


def run(home: Path, url: str) -> Running:
    return Running(home, "nym-provider", "--client-port=0", f"--store={url}")


def ended(running: Running) -> str:
    """What it said until it ended by itself, with status 1."""
    try:
        assert running.process.wait(300) == 1
        return running.lines.read()
    finally:
        running.process.kill()
        running.lines.close()


def test_a_provider_with_postgresql_runs_and_ends(server: PostgreSQLServer, tmp_path: Path) -> None:
    import psycopg

    running = run(tmp_path, server.url)
    try:
        schema = running.wait_for("The mailboxes are in PostgreSQL").split()[-1]
        assert "nymtw_mailboxes 0" in running.figures()
        second = run(tmp_path / "other", server.url)
        try:
            assert second.wait_for("The mailboxes are in PostgreSQL").split()[-1] != schema
            assert "nymtw_mailboxes 0" in second.figures()  # from now on its reactor runs
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(150) == 0
        finally:
            second.process.kill()
            second.lines.close()
        with psycopg.connect(server.url) as other:
            assert other.execute(f"SELECT count(*) FROM {schema}.items").fetchone() == (0,)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(150) == 0
        assert "Traceback" not in running.lines.read()
    finally:
        running.process.kill()
        running.lines.close()


def test_a_server_that_cannot_be_reached_ends_the_provider_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    output = ended(run(tmp_path, "postgresql://nymtw:geheim@127.0.0.1:1/nymtw"))
    assert "the mailboxes in PostgreSQL: connection" in output
    assert "The password in --store is visible to everyone on this machine" in output
    assert "geheim" not in output
    assert "Traceback" not in output


def test_a_url_that_is_none_ends_the_provider_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    output = ended(run(tmp_path, "mysql://nymtw:geheim@127.0.0.1/nymtw"))
    assert "--store: not a valid PostgreSQL URL" in output
    assert "geheim" not in output
    assert "Traceback" not in output
