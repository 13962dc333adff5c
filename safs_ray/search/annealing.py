"""Simulated annealing (Kirkpatrick, Gelatt & Vecchi 1983)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from safs_ray.config import AnnealingSection, Move
from safs_ray.search.assignment import Assignment, neighbour
from safs_ray.search.proposer import Proposer


class Annealing(Proposer):
    """Moves to a neighbour that is no worse, and to a worse one with probability exp(-(worsening) / temperature).

    The temperature is in units of cost. It falls geometrically from the first neighbour to the last one of the
    budget, and stays there beyond it. At the original's 10,000 to 10 a step that loses all accuracy is still
    taken with probability 0.9: everything is accepted, and the search is a random walk.

    Args:
        settings: the temperatures.
        steps: evaluations of the whole search, the start included.
        move: what makes a neighbour.
    """

    def __init__(
        self,
        operators: Sequence[str],
        start: Assignment,
        settings: AnnealingSection,
        steps: int,
        move: Move,
        seed: int,
    ) -> None:
        super().__init__(operators, start, seed)
        self.settings = settings
        self.steps = steps
        self.move = move

    @property
    def temperature(self) -> float:
        """By which the next neighbour is judged."""
        hot, cold = self.settings.initial_temperature, self.settings.final_temperature
        neighbours = max(0, self.iteration - 1)
        progress = min(1.0, neighbours / max(1, self.steps - 2))
        return math.pow(hot, 1 - progress) * math.pow(cold, progress)

    def _propose(self) -> Assignment:
        return neighbour(self.current, self.operators, self.move, self._draws)

    def _accepts(self, cost: float) -> bool:
        worsening = cost - self.current_cost
        return worsening <= 0 or self._draws.random() < math.exp(-worsening / self.temperature)
