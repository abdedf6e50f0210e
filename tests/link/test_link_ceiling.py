"""The ceiling on strangers' connections: per address, whatever form the address has, and in all."""

import itertools
import types

import pytest

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from nymtw.link.allowance import Allowance
from nymtw.link.connection import Ceiling, Door


class Connection:
    aborted = False

    def abort(self):
        self.aborted = True


def v4(host):
    return IPv4Address("TCP", host, 1)


def v6(host):
    return IPv6Address("TCP", host, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (v4("192.0.2.1"), v4("192.0.2.1"), True),
        (v4("192.0.2.1"), v4("192.0.2.2"), False),
        (v6("2001:db8::1"), v6("2001:db8::ffff:2"), True),  # one /64 is one customer
        (v6("2001:db8::1"), v6("2001:db8:0:1::1"), False),
        (v6("::ffff:192.0.2.1"), v4("192.0.2.1"), True),
        (v6("::ffff:192.0.2.1"), v6("::ffff:192.0.2.2"), False),
        (v6("fe80::1%eth0"), v6("fe80::2%eth1"), True),
        (UNIXAddress("/a"), UNIXAddress("/b"), True),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    ceiling = Ceiling(total=10, per_address=1)
    leave = ceiling.enter(one, Connection())
    assert ceiling.allows(other) != same
    leave()
    leave()
    assert ceiling.allows(other)
    assert len(ceiling) == 0


def test_one_too_many_costs_the_oldest_its_place():
    ceiling = Ceiling(total=3, per_address=3)
    connections = [Connection() for _ in range(5)]
    for number, connection in enumerate(connections):
        ceiling.enter(v4(f"192.0.2.{number}"), connection)
    assert [connection.aborted for connection in connections] == [True, True, False, False, False]
    assert len(ceiling) == 3


def test_a_shut_door_builds_nothing():
    class Wrapped:
        def buildProtocol(self, address):
            return "protocol"

    door = Door(Ceiling(1, 1), Wrapped())
    assert door.buildProtocol(v4("192.0.2.1")) == "protocol"
    door.open = False
    assert door.buildProtocol(v4("192.0.2.1")) is None


def test_an_allowance_is_for_one_address_and_empties_by_itself():
    clock = Clock()
    allowance = Allowance(clock, most=2, seconds=3600)
    assert [allowance.take(v6("2001:db8::1")) for _ in range(3)] == [True, True, False]
    assert not allowance.take(v6("2001:db8::2"))
    assert allowance.take(v6("2001:db8:1::1"))
    clock.advance(1799)
    assert not allowance.take(v6("2001:db8::1"))
    clock.advance(1)
    assert [allowance.take(v6("2001:db8::1")) for _ in range(2)] == [True, False]
    clock.advance(3600)
    assert [allowance.take(v6("2001:db8::1")) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("rate", [1, 2])
def test_who_tries_all_the_time_gets_no_more_than_the_allowance(rate):
    """For three hours, each half second, or twice: a limit by the hour gave twice as many around its turn."""
    clock = Clock()
    allowance = Allowance(clock, most=200, seconds=3600)
    taken = []
    for second in range(3 * 3600 * 2):
        taken += [second / 2 for _ in range(rate) if allowance.take(v4("192.0.2.1"))]
        clock.advance(0.5)
    assert len(taken) == pytest.approx(200 + 3 * 200, abs=1)
    assert max(sum(start <= when < start + 3600 for when in taken) for start in range(0, 7200, 60)) <= 401


def test_a_process_that_sleeps_while_it_counts():
    """A clock that has gone on by a second whenever it is read."""
    times = itertools.count()
    allowance = Allowance(types.SimpleNamespace(seconds=lambda: float(next(times))), 100, 10.0)
    assert [allowance.take(host) for host in ["192.0.2.1", "192.0.2.2", "192.0.2.1"]] == [True] * 3
    assert allowance.remembered == 1


def test_an_allowance_remembers_a_bounded_number_of_addresses(monkeypatch):
    monkeypatch.setattr("nymtw.link.allowance.MOST_ORIGINS", 3)
    allowance = Allowance(Clock(), most=1, seconds=3600)
    assert all(allowance.take(v4(f"192.0.2.{number}")) for number in range(4))
    assert allowance.is_used_up(v4("192.0.2.3"))
    assert not allowance.is_used_up(v4("192.0.2.0"))  # the one that was there first is forgotten
    assert allowance.remembered == 3
