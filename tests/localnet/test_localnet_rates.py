"""At which rates a localnet runs, and what is said of them."""

import pytest

from nymtw.localnet.rates import IDLE_SHARE, LEAST, MOST, Machine, Rates, explained

TWO_GOOD_CORES = Machine(9000, 2, 1.0)
TWO_SLOW_CORES = Machine(2500, 2, 1.0)


def rates(machine: Machine) -> Rates:
    return Rates.for_machine(machine, 2, 13)


def test_a_good_machine_gets_the_usual_rates() -> None:
    assert rates(TWO_GOOD_CORES).sending == MOST
    assert rates(TWO_GOOD_CORES).mix_loops == 1


@pytest.mark.parametrize("unwraps", [1200, 2500, 4000, 9000, 20000])
@pytest.mark.parametrize("cores", [1, 2, 16])
@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_idling_takes_a_third_at_most_unless_at_the_lowest_rates(unwraps: float, cores: int, share: float) -> None:
    machine = Machine(unwraps, cores, share)
    found = rates(machine)
    assert LEAST <= found.sending <= MOST
    assert found.idle(machine) <= IDLE_SHARE or found.sending == LEAST


def test_a_slower_machine_or_a_busier_one_gets_lower_rates() -> None:
    slow = rates(TWO_SLOW_CORES)
    assert LEAST < slow.sending < MOST
    assert rates(Machine(2500, 2, 0.3)).sending < slow.sending
    assert Rates.for_machine(TWO_SLOW_CORES, 2, 20).sending < slow.sending


@pytest.mark.parametrize("sending", [5, 12, 27, 60, 300])
def test_what_follows_from_what_clients_send(sending: float) -> None:
    found = Rates(sending, 2, 13)
    coming = 2 * (sending + found.loops) + sending  # own loops, their acks, what another one sends
    assert found.downlink > 1.5 * coming
    assert 16 * found.fetching > 1.5 * coming
    assert found.client > 2 * (sending + found.loops)
    assert found.node > 2 * (sending + found.loops)
    assert isinstance(found.node, int)


def test_the_text_about_rates() -> None:
    text = explained(TWO_GOOD_CORES, rates(TWO_GOOD_CORES), chosen=False)
    assert "9000 packets a second on each of 2 cores: clients send 40" in text
    assert "--rate N" in text
    busy = Machine(3000, 1, 0.32)
    text = explained(busy, rates(busy), chosen=False)
    assert "on its core, of which other programs leave 32%" in text
    wanted = Rates(400, 2, 13)
    assert explained(TWO_SLOW_CORES, wanted, chosen=True).endswith("which is more than it should")
    assert "as you said" in explained(TWO_SLOW_CORES, wanted, chosen=True)
