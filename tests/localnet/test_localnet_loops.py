"""When a client's loops are said to flow, and how long a start is waited for."""

from nymtw.localnet.lookout import Patience
from nymtw.localnet.loops import LoopFlow


def flow(*looks: tuple[float, int, int]) -> list[bool]:
    found, answers = LoopFlow(), []
    for look in looks:
        found.add(*look)
        answers.append(found.flows)
    return answers


def test_a_whole_window_is_needed() -> None:
    assert flow((0, 0, 0), (0.5, 50, 50), (1.0, 100, 98)) == [False, False, True]


def test_what_was_lost_long_ago_does_not_count() -> None:
    assert flow((0, 0, 0), (1, 100, 20), (2, 200, 70), (3, 300, 165)) == [False, False, False, True]


def test_a_slow_client_is_watched_until_it_has_sent_enough() -> None:
    looks = [(float(second), 5 * second, 5 * second) for second in range(8)]
    assert flow(*looks) == [False] * 6 + [True] * 2


def test_a_quarter_of_the_ways_closed_is_no_flow() -> None:
    assert not any(flow(*((float(second), 40 * second, 30 * second) for second in range(10))))


def test_a_client_that_started_again_is_not_flowing() -> None:
    assert flow((0, 500, 490), (1, 0, 0)) == [False, False]
    assert flow((0, 500, 490), (1, 0, 0), (2, 100, 99)) == [False, False, True]


def test_the_best_share_is_a_sign_of_progress() -> None:
    found = LoopFlow()
    for look in ((0, 0, 0), (1, 100, 20), (2, 200, 80), (3, 300, 90)):
        found.add(*look)
    assert found.best == 0.6


def test_patience_lasts_as_long_as_there_is_progress() -> None:
    patience = Patience(0, 120)
    for second in range(0, 1000, 100):
        patience.see(second, second)
        assert not patience.is_over(second + 119)
    patience.see(900, 1000)  # the same sign
    assert not patience.is_over(1019)
    assert patience.is_over(1021)
