from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safs_ray.config import Move
from safs_ray.search.lahc import LateAcceptance

OPERATORS = ("relu", "swish", "tanh", "srs")
START = ("relu",) * 5


def chain(length: int = 3, move: Move = "redraw and swap", seed: int = 0) -> LateAcceptance:
    return LateAcceptance(OPERATORS, START, length, move, seed)


def test_trace_worked_by_hand() -> None:
    """Length 2, Burke & Bykov's rule: accept when cost <= history[i mod 2] or cost <= current cost."""
    search = chain(length=2)
    trace, limits = [], []
    for cost in (0.50, 0.30, 0.45, 0.44, 0.46, 0.44):
        search.ask()
        limits.append(search.limit)
        trace.append((search.tell(cost), search.current_cost, list(search.history)))
    assert limits == [float("inf"), 0.50, 0.50, 0.45, 0.45, 0.44]
    assert trace == [
        (True, 0.50, [0.50, 0.50]),  # the start fills the history
        (True, 0.30, [0.30, 0.50]),  # i=0: 0.30 <= 0.50
        (True, 0.45, [0.30, 0.45]),  # i=1: worse than the current 0.30, but not than 0.50 two steps ago
        (True, 0.44, [0.44, 0.45]),  # i=2: above history's 0.30, but not above the current 0.45
        (False, 0.44, [0.44, 0.44]),  # i=3: above 0.45 and above 0.44
        (True, 0.44, [0.44, 0.44]),  # i=4: equal is no worse
    ]
    assert search.best_cost == 0.30
    assert search.iteration == 6


def test_a_rejected_candidate_is_not_built_upon() -> None:
    search = chain(move="redraw")
    search.ask()
    search.tell(0.1)
    for _ in range(20):
        candidate = search.ask()
        assert search.current == START
        assert sum(mine != other for mine, other in zip(candidate, START, strict=True)) == 1
        assert not search.tell(0.9)


@given(st.integers(0, 2**32), st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 4))
def test_acceptance_follows_the_rule(seed: int, costs: list[float], length: int) -> None:
    search = chain(length=length, seed=seed)
    for index, cost in enumerate(costs):
        before, history = search.current_cost, list(search.history)
        search.ask()
        accepted = search.tell(cost)
        if index:
            assert accepted == (cost <= before or cost <= history[(index - 1) % length])
        assert len(search.history) == length


def test_no_candidate_is_the_one_before_while_all_are_accepted() -> None:
    search, found = chain(), []
    for index in range(10):
        found.append(search.ask())
        search.tell(1 - index / 10)
    assert all(first != second for first, second in pairwise(found))
