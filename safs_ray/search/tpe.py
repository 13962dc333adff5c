"""The tree-structured Parzen estimator (Bergstra et al. 2011), through HyperOpt."""

from __future__ import annotations

from collections.abc import Sequence

from hyperopt import hp
from hyperopt.base import Domain

from safs_ray.config import TpeSection
from safs_ray.search import parzen
from safs_ray.search.assignment import Assignment
from safs_ray.search.proposer import Proposer


class TreeParzen(Proposer):
    """Prefers, site by site, the operators that are frequent in the best assignments and rare in the others.

    The best so far is the current one. HyperOpt is given all evaluations anew at every proposal and a seed
    drawn for it, so that it keeps nothing by itself. Its model knows only ``operators``: a start with others is
    evaluated but not learned from.

    Attributes:
        evaluated: assignments and their costs, in the order of evaluation.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, settings: TpeSection, seed: int) -> None:
        super().__init__(operators, start, seed)
        self.settings = settings
        self.evaluated: list[tuple[Assignment, float]] = []
        self._labels = [f"site {index}" for index in range(len(start))]
        self._domain = Domain(None, {label: hp.choice(label, self.operators) for label in self._labels})

    @property
    def independent(self) -> int:
        return max(1, self.settings.startup - len(self.evaluated))

    def _propose(self) -> Assignment:
        seed = self._draws.getrandbits(32)
        if len(self.evaluated) < self.settings.startup:
            chosen = parzen.draw(self._domain, seed)
        else:
            evaluated = [(self._indices(assignment), cost) for assignment, cost in self.evaluated]
            chosen = parzen.propose(self._domain, evaluated, seed, self.settings.gamma)
        return tuple(self.operators[chosen[label]] for label in self._labels)

    def _indices(self, assignment: Assignment) -> dict[str, int]:
        chosen = zip(self._labels, assignment, strict=True)
        return {label: self.operators.index(operator) for label, operator in chosen}

    def _learn(self, cost: float) -> None:
        if set(self._candidate) <= set(self.operators):
            self.evaluated.append((self._candidate, cost))
