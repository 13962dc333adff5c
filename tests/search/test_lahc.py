from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safs_ray.search.lahc import LateAcceptance, random_assignment

OPERATORS = ("relu", "swish", "tanh", "srs")
START = ("relu",) * 5


def chain(
    length: int = 3, move: str = "redraw and swap", seed: int = 0, start: tuple[str, ...] = START
) -> LateAcceptance:
    return LateAcceptance(OPERATORS, start, length, move, seed)


def test_trace_worked_by_hand() -> None:
    """Length 2, Burke & Bykov's rule: accept when cost <= history[i mod 2] or cost <= current cost."""
    search = chain(length=2)
    trace = []
    for cost in (0.50, 0.30, 0.45, 0.44, 0.46, 0.44):
        search.ask()
        trace.append((search.tell(cost), search.current_cost, list(search.history)))
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


def test_first_candidate_is_the_start() -> None:
    assert chain().ask() == START


def test_asking_twice_gives_the_same_candidate() -> None:
    search = chain()
    search.ask()
    search.tell(0.5)
    assert search.ask() == search.ask()


def test_telling_without_asking_is_refused() -> None:
    with pytest.raises(RuntimeError, match="ask"):
        chain().tell(0.5)


def test_a_rejected_candidate_is_not_built_upon() -> None:
    search = chain(move="redraw")
    search.ask()
    search.tell(0.1)
    for _ in range(20):
        candidate = search.ask()
        assert search.current == START
        assert sum(mine != other for mine, other in zip(candidate, START, strict=True)) == 1
        assert not search.tell(0.9)


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from(["redraw", "redraw and swap"]))
def test_moves_redraw_one_site_and_swap_at_most_two(seed: int, sites: int, move: str) -> None:
    start = random_assignment(OPERATORS, sites, seed)
    search = chain(move=move, seed=seed, start=start)
    search.ask()
    search.tell(1.0)
    candidate = search.ask()
    changed = sum(mine != other for mine, other in zip(candidate, start, strict=True))
    assert set(candidate) <= set(OPERATORS)
    assert len(candidate) == sites
    assert 1 <= changed <= (1 if move == "redraw" else 3)
    gained = sorted(candidate), sorted(start)
    assert gained[0] != gained[1], "a redrawn operator is never the one that was there"


@given(st.integers(0, 2**32), st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 4))
def test_best_is_never_worse_and_acceptance_follows_the_rule(seed: int, costs: list[float], length: int) -> None:
    search = chain(length=length, seed=seed)
    seen: dict[tuple[str, ...], float] = {}
    for index, cost in enumerate(costs):
        before, history = search.current_cost, list(search.history)
        candidate = search.ask()
        accepted = search.tell(cost)
        seen.setdefault(candidate, cost)
        if index:
            assert accepted == (cost <= before or cost <= history[(index - 1) % length])
        assert search.best_cost == min(costs[: index + 1])
        assert len(search.history) == length


@given(st.integers(0, 2**32), st.integers(0, 8), st.booleans())
def test_state_goes_on_exactly_between_any_two_calls(seed: int, told: int, asked: bool) -> None:
    def costs(index: int) -> float:
        return ((index * 7919 + seed) % 101) / 101

    whole = chain(seed=seed)
    for index in range(told):
        whole.ask()
        whole.tell(costs(index))
    if asked:
        whole.ask()
    restored = chain(seed=seed + 1)
    restored.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict())))
    for index in range(told, told + 6):
        assert restored.ask() == whole.ask()
        assert restored.tell(costs(index)) == whole.tell(costs(index))
    assert restored.state_dict() == whole.state_dict()


def test_same_seed_same_proposals_and_another_seed_not() -> None:
    def proposals(seed: int) -> list[tuple[str, ...]]:
        search, found = chain(seed=seed), []
        for index in range(10):
            found.append(search.ask())
            search.tell(1 - index / 10)
        return found

    assert proposals(0) == proposals(0)
    assert proposals(0) != proposals(1)
    assert all(first != second for first, second in pairwise(proposals(0)))


def test_random_start_is_drawn_from_the_operators() -> None:
    start = random_assignment(OPERATORS, 50, seed=3)
    assert set(start) == set(OPERATORS)
    assert start == random_assignment(OPERATORS, 50, seed=3) != random_assignment(OPERATORS, 50, seed=4)
