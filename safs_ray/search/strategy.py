"""Strategies: what proposes candidates and learns from their costs."""

from __future__ import annotations

import copy
import random
from typing import Protocol

from safs_ray.config import SearchSection
from safs_ray.randomness import derive
from safs_ray.references import resolve
from safs_ray.search.annealing import Annealing
from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.search.genetic import Genetic
from safs_ray.search.lahc import LateAcceptance
from safs_ray.search.predictor import Predictor
from safs_ray.search.random import RandomSearch
from safs_ray.search.walks import Walks


class Strategy(Protocol):
    """Proposes one candidate at a time; :meth:`ask` and :meth:`tell` alternate.

    The first candidate is the starting assignment, so that it is always scored; later ones take only the
    operators that are allowed. Everything follows from the arguments that made the strategy, its seed among
    them, and the costs told.

    Attributes:
        current, current_cost: the candidate accepted last; what a local search goes on from, and the best so
            far of the others.
        best, best_cost: the first candidate of the lowest cost told; the start and infinity before any.
        limit: cost beyond which the candidate asked for will not be accepted; infinity where nothing says so.
        iteration: costs told so far.
        independent: how many candidates, from the next on, do not depend on one another's costs.
    """

    current: Assignment
    current_cost: float
    best: Assignment
    best_cost: float
    iteration: int

    @property
    def limit(self) -> float: ...

    @property
    def independent(self) -> int: ...

    def ask(self) -> Assignment:
        """The next candidate; the same one until its cost is told."""

    def tell(self, cost: float) -> bool:
        """Take the finite cost of the candidate asked for; returns whether it becomes the current one.

        Raises:
            RuntimeError: no candidate was asked for.
        """


def make(search: SearchSection, start: Assignment, seed: int) -> Strategy:
    """The strategy that ``search.strategy`` names, with its settings; a user's own by ``package.module:function``.

    Args:
        start: assignment to begin with, of one site or more; its operators need not be among
            ``search.operators``.
        seed: seed of all draws.

    Examples:
        >>> search = SearchSection(operators=("relu", "tanh"), strategy="random")
        >>> strategy = make(search, ("relu", "relu"), seed=0)
        >>> for _ in range(4):  # as many as there are: random search proposes nothing twice
        ...     candidate = strategy.ask()
        ...     accepted = strategy.tell(candidate.count("relu") / 2)
        >>> strategy.best, strategy.best_cost
        (('tanh', 'tanh'), 0.0)
    """
    match search.strategy:
        case "lahc":
            starts = [start, *(_random_start(search, start, seed, walk) for walk in range(1, search.lahc.walks))]
            seeds = [seed, *(derive(seed, "walk", walk) for walk in range(1, search.lahc.walks))]
            walks = [_walk(search, own, seed) for own, seed in zip(starts, seeds, strict=True)]
            return Walks(walks) if len(walks) > 1 else walks[0]
        case "random":
            return RandomSearch(search.operators, start, seed)
        case "annealing":
            return Annealing(search.operators, start, search.annealing, search.steps, search.move, seed)
        case "genetic":
            return Genetic(search.operators, start, search.genetic, seed)
        case "tpe":
            from safs_ray.search.tpe import TreeParzen  # here: HyperOpt takes a while to import, in every worker

            return TreeParzen(search.operators, start, search.tpe, seed)
        case own:
            strategy: Strategy = resolve(own, "search.strategy")(search.operators, start, seed)
            return strategy


def _walk(search: SearchSection, start: Assignment, seed: int) -> LateAcceptance:
    predictor = Predictor() if search.predictor == "linear" else None
    return LateAcceptance(search.operators, start, search.lahc.history, search.move, seed, predictor)


def _random_start(search: SearchSection, start: Assignment, seed: int, walk: int) -> Assignment:
    return random_assignment(search.operators, len(start), random.Random(derive(seed, "start", walk)))


def upcoming(strategy: Strategy, most: int) -> list[Assignment]:
    """The next candidate and those after it that do not depend on costs still to be told, at most so many."""
    count = min(most, strategy.independent)
    if count == 1:
        return [strategy.ask()]
    ahead, found = copy.deepcopy(strategy), []
    for _ in range(count):
        found.append(ahead.ask())
        ahead.tell(1.0)  # any: none that is found here depends on it
    return found
