from safs_ray.search.assignment import Assignment
from safs_ray.search.proposer import Proposer


class Sweep(Proposer):
    """Tries every operator at one site after the other, and keeps the best of each."""

    def _propose(self) -> Assignment:
        site, operator = divmod(self.iteration - 1, len(self.operators))
        candidate = list(self.best)
        candidate[site % len(candidate)] = self.operators[operator]
        return tuple(candidate)
