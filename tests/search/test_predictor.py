from __future__ import annotations

import itertools

import pytest

from safs_ray.search.assignment import Assignment
from safs_ray.search.lahc import LateAcceptance
from safs_ray.search.predictor import FEWEST, Predictor

OPERATORS = ("relu", "swish", "tanh")
SPACE = list(itertools.product(OPERATORS, repeat=3))


def cost(assignment: Assignment) -> float:
    """Each swish is worth 0.2."""
    return 0.8 - 0.2 * assignment.count("swish")


def taught(assignments: list[Assignment]) -> Predictor:
    predictor = Predictor()
    for assignment in assignments:
        predictor.learn(assignment, cost(assignment))
    return predictor


def test_the_best_is_found_once_the_evaluations_show_it() -> None:
    best = ("swish",) * 3
    predictor = taught([assignment for assignment in SPACE if assignment.count("swish") == 1])
    assert predictor.choose(SPACE) == best
    assert predictor.choose([*reversed(SPACE)]) == best


def test_what_is_evaluated_is_not_chosen_again_unless_nothing_else_is_there() -> None:
    predictor = taught(SPACE[:-1])
    assert predictor.choose(SPACE) == SPACE[-1]
    assert predictor.choose(SPACE[:3]) in SPACE[:3]


@pytest.mark.parametrize("known", range(FEWEST))
def test_few_evaluations_leave_it_to_chance(known: int) -> None:
    assert taught(SPACE[:known]).choose(SPACE[5:]) == SPACE[5]


def test_costs_that_say_nothing_leave_it_to_chance() -> None:
    predictor = Predictor()
    for assignment in [("relu", "swish"), ("swish", "relu"), ("relu", "relu"), ("swish", "swish")]:
        predictor.learn(assignment, 0.5)
    assert predictor.choose([("tanh", "relu"), ("relu", "tanh")]) == ("tanh", "relu")
    assert predictor.choose([("relu", "tanh"), ("tanh", "relu")]) == ("relu", "tanh")


def test_an_operator_never_seen_can_be_chosen_from_and_a_start_of_others_learned_from() -> None:
    predictor = taught([("logsigmoid",) * 3, ("relu",) * 3, ("relu", "swish", "relu"), ("swish", "relu", "relu")])
    assert predictor.choose([("relu", "relu", "tanh"), ("swish", "swish", "relu")]) == ("swish", "swish", "relu")


def climbing(seed: int, predictor: Predictor | None) -> list[Assignment]:
    strategy = LateAcceptance(OPERATORS, ("relu",) * 6, 3, "redraw and swap", seed, predictor)
    made = []
    for _ in range(14):
        made.append(strategy.ask())
        strategy.tell(1.3 - 0.2 * made[-1].count("swish"))
    return made


def test_the_same_seed_proposes_the_same_and_sooner_what_is_best() -> None:
    assert climbing(0, Predictor()) == climbing(0, Predictor()) != climbing(1, Predictor())
    guided, plain = (
        sum(max(one.count("swish") for one in climbing(seed, predictor())) for seed in range(8))
        for predictor in (Predictor, lambda: None)
    )
    assert guided > plain
