"""Several hill climbers that take turns within one chain."""

from __future__ import annotations

from collections.abc import Sequence

from safs_ray.search.assignment import Assignment
from safs_ray.search.lahc import LateAcceptance


class Walks:
    """A :class:`~safs_ray.search.strategy.Strategy` of several walks, each of which proposes in its turn.

    What a walk proposes follows from its own costs alone: a round's candidates are known together, and can be trained
    side by side.
    """

    def __init__(self, walks: Sequence[LateAcceptance]) -> None:
        self.walks = walks
        self.current = self.best = walks[0].current
        self.current_cost = self.best_cost = float("inf")
        self.iteration = 0

    @property
    def independent(self) -> int:
        return len(self.walks)

    @property
    def limit(self) -> float:
        """The highest cost that the walk whose turn it is would accept."""
        return self._walk.limit

    def ask(self) -> Assignment:
        """The next candidate; the same one until its cost is told."""
        return self._walk.ask()

    def tell(self, cost: float) -> bool:
        """Take the finite cost of the candidate asked for; returns whether it becomes its walk's current one."""
        walk = self._walk
        accepted = walk.tell(cost)
        if accepted:
            self.current, self.current_cost = walk.current, cost
        if cost < self.best_cost:
            self.best, self.best_cost = walk.best, cost
        self.iteration += 1
        return accepted

    @property
    def _walk(self) -> LateAcceptance:
        return self.walks[self.iteration % len(self.walks)]
