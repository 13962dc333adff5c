"""Late Acceptance Hill Climbing (Burke & Bykov 2012; SAFS, stage 1)."""

from __future__ import annotations

from collections.abc import Sequence

from safs_ray.config import Move
from safs_ray.search.assignment import Assignment, neighbour
from safs_ray.search.predictor import Predictor
from safs_ray.search.proposer import Proposer

MOVES = 16
"""Neighbours that a predictor chooses from."""


class LateAcceptance(Proposer):
    """Moves to a neighbour that is no worse than the current one was ``length`` evaluations ago, or than it is now.

    Args:
        length: length of the history.
        move: what makes a neighbour.
        predictor: what chooses among several neighbours; without one, the first is taken, as published.

    Attributes:
        history: costs of the current assignment at the last ``length`` iterations; the cost of the start fills
            it, and it is empty before.

    Examples:
        >>> climber = LateAcceptance(["relu", "tanh"], ("relu",), length=1, move="redraw", seed=0)
        >>> climber.ask(), climber.tell(0.5)
        (('relu',), True)
        >>> climber.ask(), climber.tell(0.6), climber.current
        (('tanh',), False, ('relu',))
    """

    def __init__(
        self,
        operators: Sequence[str],
        start: Assignment,
        length: int,
        move: Move,
        seed: int,
        predictor: Predictor | None = None,
    ) -> None:
        super().__init__(operators, start, seed)
        self.length = length
        self.move = move
        self.predictor = predictor
        self.history: list[float] = []

    @property
    def limit(self) -> float:
        """The highest cost that would be accepted next: infinity for the start."""
        return max(self.current_cost, self.history[self._place]) if self.history else float("inf")

    def _propose(self) -> Assignment:
        if not self.predictor:
            return self._neighbour()
        return self.predictor.choose([self._neighbour() for _ in range(MOVES)])

    def _neighbour(self) -> Assignment:
        return neighbour(self.current, self.operators, self.move, self._draws)

    def _accepts(self, cost: float) -> bool:
        return cost <= self.limit

    def _learn(self, cost: float) -> None:
        if self.predictor:
            self.predictor.learn(self._candidate, cost)
        if self.history:
            self.history[self._place] = self.current_cost
        else:
            self.history = [cost] * self.length

    @property
    def _place(self) -> int:
        # Iteration 0 is the start itself, so the first neighbour looks at the history's first place.
        return (self.iteration - 1) % self.length
