from collections.abc import Sequence

from safs_ray.search.assignment import Assignment, neighbour
from safs_ray.search.proposer import Proposer


class Tabu(Proposer):
    """Proposes a neighbour of the best assignment that it has not proposed before, if it finds one in 20 draws."""

    def __init__(self, operators: Sequence[str], start: Assignment, seed: int) -> None:
        super().__init__(operators, start, seed)
        self._tried = {start}

    def _propose(self) -> Assignment:
        drawn = [neighbour(self.best, self.operators, "redraw", self._draws) for _ in range(20)]
        candidate = next((each for each in drawn if each not in self._tried), drawn[0])
        self._tried.add(candidate)
        return candidate
