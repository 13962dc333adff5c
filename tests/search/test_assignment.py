from __future__ import annotations

import random
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from safs_ray.search.assignment import admitted, neighbour, random_assignment

OPERATORS = ("relu", "swish", "tanh", "srs")


def test_random_assignment_follows_from_its_draws() -> None:
    drawn = random_assignment(OPERATORS, 50, random.Random(3))
    assert set(drawn) == set(OPERATORS)
    assert drawn == random_assignment(OPERATORS, 50, random.Random(3))
    assert drawn != random_assignment(OPERATORS, 50, random.Random(4))


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from(["redraw", "redraw and swap"]))
def test_a_move_redraws_one_site_and_swaps_at_most_two(
    seed: int, sites: int, move: Literal["redraw", "redraw and swap"]
) -> None:
    draws = random.Random(seed)
    assignment = random_assignment(OPERATORS, sites, draws)
    near = neighbour(assignment, OPERATORS, move, draws)
    changed = sum(mine != other for mine, other in zip(near, assignment, strict=True))
    assert set(near) <= set(OPERATORS)
    assert 1 <= changed <= (1 if move == "redraw" else 3)
    assert sorted(near) != sorted(assignment), "a redrawn operator is never the one that was there"


@given(st.integers(0, 2**32))
def test_every_neighbour_is_reached(seed: int) -> None:
    draws = random.Random(seed)
    near = {neighbour(("relu", "tanh"), ("relu", "tanh", "srs"), "redraw", draws) for _ in range(200)}
    assert near == {("tanh", "tanh"), ("srs", "tanh"), ("relu", "relu"), ("relu", "srs")}


def test_only_operators_that_are_not_allowed_are_redrawn() -> None:
    seen = {admitted(("gelu", "relu", "gelu"), ("relu", "tanh"), random.Random(seed)) for seed in range(30)}
    assert seen == {(one, "relu", other) for one in ("relu", "tanh") for other in ("relu", "tanh")}


def test_with_no_other_operator_nothing_moves() -> None:
    assert neighbour(("relu",) * 3, ("relu",), "redraw and swap", random.Random(0)) == ("relu",) * 3
