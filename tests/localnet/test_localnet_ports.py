"""Which ports a localnet takes."""

import socket

import pytest

from nymtw.localnet import ports
from nymtw.localnet.ports import PortPicker
from nymtw.node import free_ports


def test_the_usual_ports_if_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    picker = PortPicker()
    assert picker.pick(1789, 3) == (1789, 1790, 1791)
    assert picker.pick(8080) == (8080,)


def test_others_where_one_of_them_is_taken_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: port != 1790)
    numbers = iter([5000, 5000, 5001, 5002, 5001, 5003])
    monkeypatch.setattr(free_ports, "any_port", lambda host: next(numbers))
    picker = PortPicker()
    assert picker.pick(1789, 3) == (5000, 5001, 5002)
    assert picker.pick(5000) == (5003,)


def test_after_a_collision_the_usual_ones_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    assert 1789 not in PortPicker(usual=False).pick(1789, 3)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen(1)
        assert not ports.is_free(port)
    assert ports.is_free(port)
