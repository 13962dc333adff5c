"""Strategies: what proposes candidates and learns from their costs."""

from __future__ import annotations

from typing import Any, Protocol

from safs_ray.config import SearchSection
from safs_ray.search.annealing import Annealing
from safs_ray.search.assignment import Assignment
from safs_ray.search.genetic import Genetic
from safs_ray.search.lahc import LateAcceptance
from safs_ray.search.predictor import Predictor
from safs_ray.search.random import RandomSearch
from safs_ray.search.tpe import TreeParzen


class Strategy(Protocol):
    """Proposes one candidate at a time; :meth:`ask` and :meth:`tell` alternate.

    The first candidate is the starting assignment, so that it is always scored; later ones take only the
    operators that are allowed. Everything follows from the arguments that made the strategy, its seed among
    them, and the costs told.

    Attributes:
        current, current_cost: the candidate accepted last; what a local search goes on from, and the best so
            far of the others.
        best, best_cost: the first candidate of the lowest cost told; the start and infinity before any.
        limit: cost beyond which the candidate asked for will not be accepted; infinity where nothing says so.
        iteration: costs told so far.
    """

    current: Assignment
    current_cost: float
    best: Assignment
    best_cost: float
    iteration: int

    @property
    def limit(self) -> float: ...

    def ask(self) -> Assignment:
        """The next candidate; the same one until its cost is told."""

    def tell(self, cost: float) -> bool:
        """Take the finite cost of the candidate asked for; returns whether it becomes the current one.

        Raises:
            RuntimeError: no candidate was asked for.
        """

    def state_dict(self) -> dict[str, Any]:
        """Plain values, which ``torch.load(weights_only=True)`` accepts."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, exactly, where a strategy of the same arguments was between any two calls."""


def make(search: SearchSection, start: Assignment, seed: int) -> Strategy:
    """The strategy that ``search.strategy`` names, with its settings.

    Args:
        start: assignment to begin with, of one site or more; its operators need not be among
            ``search.operators``.
        seed: seed of all draws.
    """
    match search.strategy:
        case "lahc":
            predictor = Predictor() if search.predictor == "linear" else None
            return LateAcceptance(search.operators, start, search.lahc.history, search.move, seed, predictor)
        case "random":
            return RandomSearch(search.operators, start, seed)
        case "annealing":
            return Annealing(search.operators, start, search.annealing, search.steps, search.move, seed)
        case "genetic":
            return Genetic(search.operators, start, search.genetic, seed)
        case "tpe":
            return TreeParzen(search.operators, start, search.tpe, seed)
