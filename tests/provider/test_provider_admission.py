"""A provider lets a client send what a client of this network sends, as a gateway does."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edge_and_clients import HOP, PACKET, World

from nymtw.drop_reasons import DropReason
from nymtw.provider.admission import BURST, OpenAdmission, client_rate
from nymtw.provider.options import Options, ProviderSection, configure
from nymtw.provider.service import ProviderService
from nymtw.testing.clock import FakeClock
from nymtw.topology.document import Recommended

SECTION = ProviderSection(id="p", host="127.0.0.1", port=0, client_port=0, directory_key="")


@pytest.mark.parametrize("packets", [1000, 2000])
def test_a_client_that_sends_all_at_once_gets_no_further_than_a_burst(packets: int) -> None:
    clock = FakeClock()
    verifier = ProviderService.link_parts(clock, SECTION)["verifier"]
    world: Any = World(clock=clock, verifier=verifier)
    greedy, _ = world.logged_in("greedy")
    modest, _ = world.logged_in("modest")
    for number in range(packets):
        assert greedy.submit(HOP, 7, PACKET)
        if number % 100 == 99:
            clock.advance(0.01)  # the line takes no more at once
    clock.advance(1.0)
    passed = len(world.submitted)
    assert BURST <= passed <= BURST + 2 * client_rate(Recommended())
    assert world.dropped == [DropReason.OVER_ALLOWANCE] * (packets - passed)
    for _ in range(20):
        modest.submit(HOP, 7, PACKET)
    clock.advance(1.0)
    assert len(world.submitted) == passed + 20
    world.close()


def test_the_limits_are_those_of_the_section() -> None:
    section = msgspec.structs.replace(SECTION, client_rate=3.0, registrations=50, registrations_per_address=5)
    parts = ProviderService.link_parts(FakeClock(), section)
    assert isinstance(parts["verifier"], OpenAdmission)
    assert parts["verifier"].rate == 3.0
    assert (parts["limits"].registrations, parts["limits"].registrations_per_address) == (50, 5)


def test_the_command_line_sets_them_and_the_file_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = Options()
    words = ["--id=p", "--directory-key=x", "--client-rate=7", "--registrations=9", "--registrations-per-address=3"]
    options.parseOptions([*words, "--unused-days=2", "--abandoned-days=0"])
    assert (options["unused-days"], options["abandoned-days"]) == (2, 0)
    home, config = configure(options)
    assert (config.node.client_rate, config.node.registrations, config.node.registrations_per_address) == (7.0, 9, 3)
    assert "client_rate = 7.0" in home.config_file.read_text()
