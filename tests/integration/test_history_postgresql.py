"""The same history in a real PostgreSQL server, which the test starts."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nymtw.directory.history import NETWORK, Second, Sums, open_history
from nymtw.directory.recorder import network_sums
from nymtw.errors import DiskError

pytestmark = pytest.mark.integration
ONE = bytes([1]) * 32
START = 1_800_000_000


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    programs = _programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL on this machine")
    pytest.importorskip("psycopg")
    # Its server does not run as root; the folders of pytest are closed to others.
    as_root = os.getuid() == 0
    user = "postgres" if as_root else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    if as_root:
        shutil.chown(folder, user)
    prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if as_root else []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    try:
        run(f"{programs}/initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "nymtw")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run(f"{programs}/pg_ctl", "-D", f"{folder}/data", "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql://nymtw@127.0.0.1:{port}/postgres"
        finally:
            run(f"{programs}/pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_history_in_postgresql(url: str) -> None:
    history = open_history(url)
    for start in range(0, 200, 5):
        sums = {ONE: Sums(sent=10**12, received=2, up=1, loops_sent=3, loops_returned=2)}
        history.add([Second(START + at, network_sums(sums)) for at in range(start, start + 5)])
    assert history.read(ONE, 60, 0)[0] == (START, 60 * 10**12, 120, 60)
    assert len(history.read(NETWORK, 1, 0)) == 200
    standing = history.standing(ONE, 3600, START + 200)
    assert (standing.watched, standing.up, standing.loops_sent, standing.loops_returned) == (200, 200, 600, 400)
    with pytest.raises(DiskError):
        history.add([Second(START, {ONE: Sums(sent=2**70)})])
    history.close()
    again = open_history(url)
    assert len(again.read(ONE, 1, 0)) == 200
    again.prune(START + 3700)
    assert len(again.read(ONE, 1, 0)) == 100
    again.close()


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DiskError, match="cannot open the database") as caught:
        open_history("postgresql://nymtw:geheim@127.0.0.1:1/postgres")
    assert "geheim" not in str(caught.value)
