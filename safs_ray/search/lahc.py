"""Late Acceptance Hill Climbing over assignments (Burke & Bykov 2012; SAFS, stage 1)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

Assignment = tuple[str, ...]


class LateAcceptance:
    """Accepts a candidate that is no worse than the current one was ``length`` evaluations ago, or than it is now.

    :meth:`ask` and :meth:`tell` alternate. The first candidate is the starting assignment, whose cost fills the
    history.

    Args:
        operators: names that a site may take.
        start: assignment to begin with; its operators need not be among ``operators``.
        length: length of the history.
        move: "redraw" gives one random site another operator; "redraw and swap" then exchanges the operators
            of two random sites, as the original does.
        seed: seed of the moves.

    Attributes:
        current, current_cost: the assignment that the next candidate is a neighbour of.
        best, best_cost: the assignment of the lowest cost told so far.
        history: costs of the current assignment at the last ``length`` iterations; empty before the first cost.
        iteration: costs told so far.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, length: int, move: str, seed: int) -> None:
        self.operators = tuple(operators)
        self.length = length
        self.swaps = move == "redraw and swap"
        self.current = self.best = self._candidate = start
        self.current_cost = self.best_cost = float("inf")
        self.history: list[float] = []
        self.iteration = 0
        self._random = random.Random(seed)
        self._asked = False

    def ask(self) -> Assignment:
        """The next candidate; the same one until its cost is told."""
        if not self._asked and self.iteration:
            self._candidate = self._neighbour(self.current)
        self._asked = True
        return self._candidate

    def tell(self, cost: float) -> bool:
        """Take the finite cost of the candidate asked for; returns whether it becomes the current one."""
        if not self._asked:
            raise RuntimeError("tell() needs an ask() before it")
        self._asked = False
        if not self.history:
            self.history = [cost] * self.length
        # Iteration 0 is the start itself, so the first neighbour looks at the history's first place.
        place = (self.iteration - 1) % self.length
        accepted = self.iteration == 0 or cost <= self.history[place] or cost <= self.current_cost
        if accepted:
            self.current, self.current_cost = self._candidate, cost
        if cost < self.best_cost:
            self.best, self.best_cost = self._candidate, cost
        if self.iteration:
            self.history[place] = self.current_cost
        self.iteration += 1
        return accepted

    def _neighbour(self, assignment: Assignment) -> Assignment:
        sites = list(assignment)
        site = self._random.randrange(len(sites))
        sites[site] = self._random.choice([name for name in self.operators if name != sites[site]])
        if self.swaps and len(sites) > 1:
            first, second = self._random.sample(range(len(sites)), 2)
            sites[first], sites[second] = sites[second], sites[first]
        return tuple(sites)

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which :meth:`load_state_dict` goes on exactly, between any two calls."""
        return {
            "current": self.current,
            "current_cost": self.current_cost,
            "best": self.best,
            "best_cost": self.best_cost,
            "candidate": self._candidate,
            "history": list(self.history),
            "iteration": self.iteration,
            "asked": self._asked,
            "random": self._random.getstate(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.current, self.current_cost = state["current"], state["current_cost"]
        self.best, self.best_cost = state["best"], state["best_cost"]
        self._candidate, self._asked = state["candidate"], state["asked"]
        self.history = list(state["history"])
        self.iteration = state["iteration"]
        self._random.setstate(state["random"])


def random_assignment(operators: Sequence[str], sites: int, seed: int) -> Assignment:
    """An operator drawn uniformly for every site."""
    draws = random.Random(seed)
    return tuple(draws.choice(operators) for _ in range(sites))
