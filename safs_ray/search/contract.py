"""What every strategy promises, tried on one: the package's own, or a user's."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.strategy import Strategy, upcoming

MakeStrategy = Callable[[Sequence[str], Assignment, int], Strategy]
"""Makes a strategy of the operators that a site may take, the starting assignment, and a seed."""

OPERATORS = ("relu", "swish", "tanh", "srs")
STARTS: tuple[Assignment, ...] = (("relu",) * 4, ("gelu", "relu", "elu", "elu"), ("elu",))
STEPS = 14


def fault_of(make: MakeStrategy) -> str | None:
    """The first promise that a strategy breaks, in words; None where it keeps all."""
    try:
        return next(_faults(make), None)
    except Exception as error:  # a user's strategy may raise anything
        return f"raises {type(error).__name__}: {error}"


def _faults(make: MakeStrategy) -> Iterator[str]:
    for start in STARTS:
        yield from _faults_of_candidates(make, start)
    yield from _faults_of_order(make)
    yield from _faults_of_best(make)
    yield from _faults_of_seeds(make)
    yield from _faults_of_copies(make)


def _faults_of_candidates(make: MakeStrategy, start: Assignment) -> Iterator[str]:
    first, *others = _candidates(make(OPERATORS, start, 0))
    if first != start:
        yield f"proposes {','.join(first)} first; it must be the starting assignment"
    for candidate in others:
        if len(candidate) != len(start) or not set(candidate) <= set(OPERATORS):
            yield f"proposes {','.join(candidate)} for {len(start)} sites that may take {', '.join(OPERATORS)}"
    if len(set(others)) < 2:
        yield "proposes only one assignment"


def _faults_of_order(make: MakeStrategy) -> Iterator[str]:
    """Asking and telling alternate."""
    strategy = make(OPERATORS, STARTS[0], 0)
    try:
        strategy.tell(0.5)
        yield "accepts a cost before it was asked for a candidate; it must raise RuntimeError"
    except RuntimeError:
        pass
    for _ in range(STEPS):
        candidate = strategy.ask()
        if strategy.ask() != candidate:
            yield "proposes another candidate when it is asked again before the cost is told"
        strategy.tell(_cost(candidate))
    if strategy.iteration != STEPS:
        yield f"has iteration {strategy.iteration} after {STEPS} costs were told"


def _faults_of_best(make: MakeStrategy) -> Iterator[str]:
    strategy = make(OPERATORS, STARTS[0], 0)
    told: list[tuple[float, Assignment]] = []
    for _ in range(STEPS):
        before = strategy.current, strategy.current_cost
        candidate = strategy.ask()
        accepted = strategy.tell(_cost(candidate))
        told.append((_cost(candidate), candidate))
        lowest = min(told, key=lambda each: each[0])
        if (strategy.best_cost, strategy.best) != lowest:
            yield "has a best that is not the first candidate with the lowest cost told"
        if (strategy.current, strategy.current_cost) != ((candidate, _cost(candidate)) if accepted else before):
            yield "has a current assignment that is not the one it accepted last"


def _faults_of_seeds(make: MakeStrategy) -> Iterator[str]:
    before = _states()
    first, again, other = (_candidates(make(OPERATORS, STARTS[0], seed)) for seed in (3, 3, 4))
    if first != again:
        yield "proposes other candidates when it is made again with the same seed"
    if first == other:
        yield "proposes the same whatever the seed"
    if _states() != before:
        yield "draws from a global random generator; it must have its own, made from its seed"


def _faults_of_copies(make: MakeStrategy) -> Iterator[str]:
    """Looking ahead copies a strategy, as does sending it to another process."""
    strategy = make(OPERATORS, STARTS[0], 0)
    for _ in range(8):
        strategy.tell(_cost(strategy.ask()))
        copied = pickle.loads(pickle.dumps(strategy))  # of our own making: nothing is read from elsewhere
        if upcoming(strategy, 5) != upcoming(copied, 5):
            yield "goes on differently when it is pickled"
        if strategy.ask() != copied.ask():
            yield "is changed by looking ahead"
        if len(upcoming(strategy, 5)) != min(5, strategy.independent):
            yield "has fewer candidates that are independent of costs than it says"


def _cost(assignment: Assignment) -> float:
    """Any number in [0, 1] that follows from the assignment."""
    return derive(0, *assignment) % 101 / 101


def _candidates(strategy: Strategy) -> list[Assignment]:
    candidates = []
    for _ in range(STEPS):
        candidates.append(strategy.ask())
        strategy.tell(_cost(candidates[-1]))
    return candidates


def _states() -> tuple[object, ...]:
    """The states of the global generators."""
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
