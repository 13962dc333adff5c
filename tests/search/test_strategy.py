"""The contract of all strategies. What is particular to one is tested in a file of its own."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safs_ray import config
from safs_ray.config import Configuration, SearchSection, names
from safs_ray.data import Splits
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.course import joint
from safs_ray.search.evaluation import Ledger
from safs_ray.search.strategy import Strategy, make, upcoming
from safs_ray.stages import Result
from safs_ray.training import Context

WALKS = "lahc, three walks"
STRATEGIES = (*names.STRATEGIES, WALKS)
OPERATORS = ("relu", "swish", "tanh", "srs")
START = ("relu",) * 4
STEPS = 14
"""Enough for five generations, and for TPE's model to propose ten times."""


@pytest.fixture(params=STRATEGIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def section(name: str, operators: tuple[str, ...] = OPERATORS) -> SearchSection:
    settings = {
        "strategy": "lahc" if name == WALKS else name,
        "steps": STEPS,
        "lahc": {"walks": 3 if name == WALKS else 1},
        "annealing": {"initial_temperature": 0.5, "final_temperature": 0.05},
        "genetic": {"population": 4},
        "tpe": {"startup": 4},
    }
    search = config.validate({"search": settings}).search
    return search.model_copy(update={"operators": operators})  # one operator alone is refused in a configuration


def strategy(name: str, seed: int = 0, start: Assignment = START, operators: tuple[str, ...] = OPERATORS) -> Strategy:
    return make(section(name, operators), start, seed)


def cost(assignment: Assignment) -> float:
    """Any number in [0, 1] that follows from the assignment."""
    return derive(0, *assignment) % 101 / 101


def run(running: Strategy, steps: int = STEPS) -> list[tuple[Assignment, bool]]:
    """Candidates, and whether they were accepted."""
    return [(candidate := running.ask(), running.tell(cost(candidate))) for _ in range(steps)]


def candidates(running: Strategy, steps: int = STEPS) -> list[Assignment]:
    return [candidate for candidate, _ in run(running, steps)]


def test_the_largest_settings_take_little_memory_before_the_search_has_begun(name: str) -> None:
    settings = {
        "strategy": "lahc" if name == WALKS else name,
        "steps": 10**6,
        "lahc": {"history": 10**5, "walks": 3 if name == WALKS else 1},
        "genetic": {"population": 10**6, "elites": 10**6 - 1},
        "tpe": {"startup": 10**6, "gamma": 100},
    }
    tracemalloc.start()
    run(make(config.validate({"search": settings}).search, START, 0), 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("start", [START, ("gelu", "relu", "elu", "elu"), ("elu",)])
def test_the_start_comes_first_and_then_only_what_is_allowed(name: str, start: Assignment) -> None:
    first, *others = candidates(strategy(name, start=start))
    assert first == start
    assert len(set(others)) > 1
    for candidate in others:
        assert len(candidate) == len(start)
        assert set(candidate) <= set(OPERATORS)


def test_asking_again_gives_the_same_candidate_until_its_cost_is_told(name: str) -> None:
    once, often = strategy(name), strategy(name)
    expected = run(once)
    for candidate, accepted in expected:
        assert [often.ask() for _ in range(3)] == [candidate] * 3
        assert often.tell(cost(candidate)) == accepted


def test_telling_without_asking_is_refused(name: str) -> None:
    running = strategy(name)
    with pytest.raises(RuntimeError, match="ask"):
        running.tell(0.5)
    running.ask()
    running.tell(0.5)
    with pytest.raises(RuntimeError, match="ask"):
        running.tell(0.5)
    assert running.iteration == 1


def test_same_seed_same_candidates_and_another_seed_not(name: str) -> None:
    assert run(strategy(name, seed=3)) == run(strategy(name, seed=3))
    assert candidates(strategy(name, seed=3)) != candidates(strategy(name, seed=4))


def test_same_candidates_in_another_process() -> None:
    code = "from tests.search.test_strategy import *; print([candidates(strategy(name)) for name in STRATEGIES])"
    root = Path(__file__).parents[2]
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert printed.stdout.strip() == str([candidates(strategy(name)) for name in STRATEGIES])


def test_no_global_generator_is_read_or_changed(name: str) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    expected = run(strategy(name))
    assert states() == before
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert run(strategy(name)) == expected


def test_best_is_the_first_of_the_lowest_costs_told(name: str) -> None:
    running = strategy(name)
    assert (running.best, running.best_cost) == (START, float("inf"))
    told: list[tuple[float, Assignment]] = []
    for step in range(STEPS):
        candidate = running.ask()
        running.tell(cost(candidate))
        told.append((cost(candidate), candidate))
        lowest = min(each for each, _ in told)
        assert running.best_cost == lowest
        assert running.best == next(assignment for each, assignment in told if each == lowest)
        assert running.iteration == step + 1


def test_the_current_one_is_the_one_accepted_last(name: str) -> None:
    running = strategy(name)
    for step in range(STEPS):
        before = running.current, running.current_cost
        candidate = running.ask()
        accepted = running.tell(cost(candidate))
        expected = (candidate, cost(candidate)) if accepted else before
        assert (running.current, running.current_cost) == expected
        assert accepted or step


def test_it_can_be_pickled_in_mid_run(name: str) -> None:
    whole = strategy(name)
    run(whole, 8)
    whole.ask()
    copy = pickle.loads(pickle.dumps(whole))
    assert run(copy, STEPS) == run(whole, STEPS)


@pytest.mark.parametrize("done", [0, 1, 3, 4, 9])
def test_what_comes_next_is_known_as_far_as_it_is_independent_of_costs(name: str, done: int) -> None:
    running, other = strategy(name), strategy(name)
    run(running, done)
    run(other, done)
    told = upcoming(running, 5)
    assert len(told) == min(5, running.independent)
    assert told == [(other.ask(), other.tell(0.9 - step / 10))[0] for step in range(len(told))]
    assert candidates(running, len(told)) == told, "looking ahead changes nothing"


def test_a_single_site(name: str) -> None:
    found = candidates(strategy(name, start=("relu",)))
    assert found[0] == ("relu",)
    assert {*found} <= {(operator,) for operator in OPERATORS}
    assert len({*found}) > 1


@pytest.mark.parametrize("operator", ["relu", "tanh"])
def test_a_single_operator(name: str, operator: str) -> None:
    assert candidates(strategy(name, operators=(operator,))) == [START] + [(operator,) * 4] * (STEPS - 1)


def test_costs_that_are_all_the_same(name: str) -> None:
    running = strategy(name)
    found = []
    for _ in range(STEPS):
        found.append(running.ask())
        running.tell(0.5)
    assert (running.best, running.best_cost) == (START, 0.5)
    assert len(set(found)) > STEPS // 3, "it goes on searching"


def test_a_chain_searches_with_it(name: str, pruned: Result, splits: Splits, configuration: Configuration) -> None:
    update = {field: getattr(section(name), field) for field in ("strategy", "lahc")}
    search = configuration.search.model_copy(update=update)
    changed = configuration.model_copy(update={"search": search})
    memory = Ledger()
    default, context = changed.pruning.hyperparameters, Context(changed, splits)
    chain = Chain(pruned.network, context, default, memory, joint(changed), trial="a")
    for _ in range(search.steps):
        chain.step()
    assert memory.evaluations[0].assignment == pruned.network.assignment
    best = max(memory.evaluations, key=lambda evaluation: evaluation.validation_accuracy)
    assert chain.strategy.best == best.assignment
    assert chain.strategy.iteration == search.steps
