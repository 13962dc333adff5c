"""What the strategies share: the starting assignment first, one candidate at a time, the best so far."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from safs_ray.search.assignment import Assignment


class Proposer(ABC):
    """A :class:`~safs_ray.search.strategy.Strategy` that lacks only its ideas.

    :meth:`_propose` says which candidate comes next, :meth:`_accepts` whether it becomes the current one, and
    :meth:`_learn` keeps what the next proposals need.

    Args:
        operators: names that a site may take.
        start: assignment to begin with, of one site or more; its operators need not be among ``operators``.
        seed: seed of all draws.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, seed: int) -> None:
        self.operators = tuple(operators)
        self.current = self.best = self._candidate = start
        self.current_cost = self.best_cost = float("inf")
        self.iteration = 0
        self._draws = random.Random(seed)
        self._asked = False

    @property
    def independent(self) -> int:
        """How many candidates, from the next on, do not depend on one another's costs."""
        return 1

    def ask(self) -> Assignment:
        """The next candidate; the same one until its cost is told."""
        if not self._asked and self.iteration:
            self._candidate = self._propose()
        self._asked = True
        return self._candidate

    def tell(self, cost: float) -> bool:
        """Take the finite cost of the candidate asked for; returns whether it becomes the current one."""
        if not self._asked:
            raise RuntimeError("tell() needs an ask() before it")
        self._asked = False
        accepted = self._accepts(cost)
        if accepted:
            self.current, self.current_cost = self._candidate, cost
        if cost < self.best_cost:
            self.best, self.best_cost = self._candidate, cost
        self._learn(cost)
        self.iteration += 1
        return accepted

    @property
    def limit(self) -> float:
        """Cost beyond which the candidate asked for will not be accepted; infinity where nothing says so."""
        return float("inf")

    @abstractmethod
    def _propose(self) -> Assignment:
        """A candidate, drawn when the start has been told."""

    def _accepts(self, cost: float) -> bool:
        """Whether the candidate of this cost becomes the current one; here, when it is the best so far."""
        return cost < self.best_cost

    def _learn(self, cost: float) -> None:  # noqa: B027 - not every strategy learns
        """Keep what later proposals need of the candidate and its cost."""
