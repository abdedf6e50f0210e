"""The same history in a real PostgreSQL server, which the test starts."""

from collections.abc import Iterator

import pytest
from postgresql_server import PostgreSQLServer, postgresql_server

from twisted.internet.defer import Deferred, maybeDeferred

from nymtw.directory.dashboard.history import NETWORK, History, Second, Sums, open_history
from nymtw.directory.dashboard.recorder import Recorder, network_sums
from nymtw.errors import DirectoryError, DiskError
from nymtw.testing.clock import FakeClock

pytestmark = pytest.mark.integration
ONE = bytes([1]) * 32
START = 1_800_000_000


@pytest.fixture
def server() -> Iterator[PostgreSQLServer]:
    with postgresql_server() as server:
        yield server


def test_the_history_in_postgresql(server: PostgreSQLServer) -> None:
    url = server.url
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


def test_a_server_that_crashes_and_comes_back_is_connected_to_again(server: PostgreSQLServer) -> None:
    clock = FakeClock()
    history = open_history(server.url, seconds=clock.seconds)
    history.add([Second(START, network_sums({ONE: Sums(sent=1, up=1)}))])
    server.stop("immediate")
    for _ in range(3):
        with pytest.raises(DiskError, match="cannot be read"):
            history.read(ONE, 1, 0)
        with pytest.raises(DiskError, match="cannot be written"):
            history.add([Second(START + 1, network_sums({ONE: Sums(sent=2, up=1)}))])
    server.start()
    clock.advance(2)
    history.add([Second(START + 1, network_sums({ONE: Sums(sent=2, up=1)}))])
    assert history.read(ONE, 1, 0) == [(START, 1, 0, 1), (START + 1, 2, 0, 1)]
    history.close()


def test_seconds_wait_for_a_database_that_is_away_and_none_is_lost(server: PostgreSQLServer) -> None:
    clock = FakeClock()

    def opened() -> History:
        return open_history(server.url, seconds=clock.seconds)

    recorder = Recorder(clock, clock.wall_clock, opened, maybeDeferred)
    recorder.startService()

    def pass_by(seconds: int) -> None:
        for _ in range(seconds):
            recorder.record(Second(int(clock.wall_clock()), network_sums({ONE: Sums(sent=7, up=1)})))
            clock.advance(1)

    pass_by(20)
    server.stop("immediate")
    pass_by(60)
    with pytest.raises(DirectoryError, match="cannot be read"):
        clock.wait_for(Deferred.fromCoroutine(recorder.series(ONE, 1)), 1)
    server.start()
    pass_by(30)
    points = clock.wait_for(Deferred.fromCoroutine(recorder.series(ONE, 1)), 1)
    assert len(points) == 110
    assert {point[1:] for point in points} == {(7, 0, 1)}
    assert recorder.lost == 0
    clock.wait_for(recorder.stopService(), 1)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DiskError, match="cannot open the database") as caught:
        open_history("postgresql://nymtw:geheim@127.0.0.1:1/postgres")
    assert "geheim" not in str(caught.value)
