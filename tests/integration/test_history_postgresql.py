"""The same history in a real PostgreSQL server, which the test starts."""

from collections.abc import Iterator

import pytest
from postgresql_server import postgresql_server

from nymtw.directory.history import NETWORK, Second, Sums, open_history
from nymtw.directory.recorder import network_sums
from nymtw.errors import DiskError

pytestmark = pytest.mark.integration
ONE = bytes([1]) * 32
START = 1_800_000_000


@pytest.fixture
def url() -> Iterator[str]:
    with postgresql_server() as server:
        yield server.url


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
