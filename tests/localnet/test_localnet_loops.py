"""When a client's loops are said to flow."""

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


def test_too_few_say_nothing() -> None:
    assert flow((0, 0, 0), (1, 10, 10), (2, 20, 20)) == [False, False, False]


def test_a_client_that_started_again_is_not_flowing() -> None:
    assert flow((0, 500, 490), (1, 0, 0)) == [False, False]
