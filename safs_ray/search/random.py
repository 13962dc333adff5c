"""Random search: what every other strategy has to beat (Bergstra & Bengio 2012)."""

from __future__ import annotations

import sys

from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.search.proposer import Proposer


class RandomSearch(Proposer):
    """Draws every candidate anew, each operator with the same probability; the best so far is the current one.

    The original walks instead: it changes one site of the last assignment, whether that was better or not.
    """

    @property
    def independent(self) -> int:
        return sys.maxsize

    def _propose(self) -> Assignment:
        return random_assignment(self.operators, len(self.best), self._draws)
