from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safs_ray.search.rungs import FEWEST, Rungs

FRACTIONS = st.floats(0, 1)
CURVES = st.lists(FRACTIONS, min_size=5, max_size=5)


def taught(*curves: list[float]) -> Rungs:
    rungs = Rungs([1, 2])
    for curve in curves:
        rungs.learn(curve)
    return rungs


def test_a_stop_by_hand() -> None:
    """Gains after epoch 1: 0.25, 0.5, 0.125; after epoch 2: 0, 0.25, 0.125, since the highest so far counts."""
    rungs = taught([0.25, 0.5, 0.25], [0.25, 0.5, 0.75], [0.5, 0.25, 0.625])
    assert not rungs.stop([0.25], limit=0.25), "0.25 + 0.5 is just what is accepted"
    assert rungs.stop([0.25], limit=0.125)
    assert rungs.stop([0.375, 0.25], limit=0.25), "0.375 + 0.25 is less than 0.75"
    assert not rungs.stop([0.375, 0.25], limit=0.375)
    assert rungs.expected_cost([0.375, 0.25]) == 1 - 0.375 - 0.125
    assert rungs.expected_cost([0.25]) == 1 - 0.25 - 0.25


def test_nothing_stops_between_rungs_or_without_them() -> None:
    hopeless = [0.0, 0.0, 0.0, 0.0]
    curves = [[0.5, 0.5, 0.5, 0.5, 0.5]] * FEWEST
    assert [taught(*curves).stop(hopeless[:epochs], 0.0) for epochs in range(5)] == [False, True, True, False, False]
    none = Rungs(())
    none.learn(curves[0])
    assert not any(none.stop(hopeless[:epochs], 0.0) for epochs in range(5))


def test_few_gains_stop_nothing() -> None:
    assert not taught(*[[0.5] * 3] * (FEWEST - 1)).stop([0.0], 0.0)


def test_the_start_never_stops() -> None:
    assert not taught(*[[0.5] * 3] * FEWEST).stop([0.0], float("inf"))


def test_one_gain_in_ten_may_be_larger() -> None:
    usual, rare = [[0.5, 0.5, 0.5]], [[0.0, 0.0, 1.0]]
    assert taught(*usual * 9, *rare).stop([0.25], limit=0.5)
    assert not taught(*usual * 8, *rare * 2).stop([0.25], limit=0.5)


@given(st.lists(CURVES, min_size=FEWEST, max_size=12), CURVES, FRACTIONS, st.sampled_from([1, 2]))
def test_what_stops_is_rejected(curves: list[list[float]], curve: list[float], limit: float, rung: int) -> None:
    rungs = taught(*curves)
    if rungs.stop(curve[:rung], limit):
        assert limit < rungs.expected_cost(curve[:rung]) <= 1 - max(curve[:rung])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_order_of_what_was_learned_is_nothing(order: tuple[int, ...]) -> None:
    curves = [[0.25, 0.5, 0.25], [0.25, 0.5, 0.75], [0.5, 0.25, 0.625]]
    assert taught(*(curves[place] for place in order)).expected_cost([0.25]) == 0.5
