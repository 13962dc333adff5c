"""A genetic algorithm over assignments (Holland 1975), one evaluation at a time."""

from __future__ import annotations

from collections.abc import Sequence

from safs_ray.config import GeneticSection
from safs_ray.search.assignment import Assignment, admitted, neighbour, random_assignment
from safs_ray.search.proposer import Proposer

Scored = tuple[Assignment, float]
"""An assignment and its cost."""


class Genetic(Proposer):
    """Breeds a generation of assignments from the one before; the best so far is the current one.

    The first generation is the start and random assignments. Of each later one, the best of its parents are
    members that need no new evaluation; the others are children: two parents win tournaments of two, exchange
    their sites behind a random cut with probability ``crossover``, and one site of the child is redrawn with
    probability ``mutation``. There are as many generations as the budget of evaluations allows; the last may
    be cut short.

    Attributes:
        parents: the last whole generation; empty during the first.
        generation: the members of the present one so far.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, settings: GeneticSection, seed: int) -> None:
        super().__init__(operators, start, seed)
        self.settings = settings
        self.parents: list[Scored] = []
        self.generation: list[Scored] = []

    @property
    def independent(self) -> int:
        return self.settings.population - len(self.generation)

    def _propose(self) -> Assignment:
        if not self.parents:
            return random_assignment(self.operators, len(self.best), self._draws)
        return self._child(self._winner(), self._winner())

    def _child(self, one: Assignment, other: Assignment) -> Assignment:
        child = one
        if len(child) > 1 and self._draws.random() < self.settings.crossover:
            cut = self._draws.randrange(1, len(child))
            child = one[:cut] + other[cut:]
        if self._draws.random() < self.settings.mutation:
            child = neighbour(child, self.operators, "redraw", self._draws)
        return admitted(child, self.operators, self._draws)

    def _winner(self) -> Assignment:
        return min(self._draws.sample(self.parents, 2), key=_cost)[0]

    def _learn(self, cost: float) -> None:
        self.generation.append((self._candidate, cost))
        if len(self.generation) == self.settings.population:
            self.parents = sorted(self.generation, key=_cost)
            self.generation = self.parents[: self.settings.elites]


def _cost(scored: Scored) -> float:
    return scored[1]
