"""Random search: what every other strategy has to beat (Bergstra & Bengio 2012)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.search.proposer import Proposer


class RandomSearch(Proposer):
    """Draws among the assignments it has not proposed, each with the same probability; the best so far is current.

    When all have been proposed, all can be drawn again. So with one operator for the whole network
    (``search.granularity=network``) as many steps as there are operators try every one of them.

    The original walks instead: it changes one site of the last assignment, whether that was better or not.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, seed: int) -> None:
        super().__init__(operators, start, seed)
        self._proposed = {start} if set(start) <= set(operators) else set()

    @property
    def independent(self) -> int:
        return sys.maxsize

    def _propose(self) -> Assignment:
        sites = len(self.best)
        if len(self._proposed) == len(set(self.operators)) ** sites:
            self._proposed.clear()
        while (candidate := random_assignment(self.operators, sites, self._draws)) in self._proposed:
            pass
        self._proposed.add(candidate)
        return candidate
