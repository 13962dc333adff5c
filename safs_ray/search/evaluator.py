"""What the evaluations of candidates cost and tell: each is trained once, by whichever trial wants it first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.evaluation import Memory, Score, evaluate, evaluation_key
from safs_ray.training import AloneError, Training

COHORT = 16
"""Candidates that are trained side by side; of more, each gains little."""


class Evaluator:
    """Scores candidates: from the memory, from what it has trained before its turn, or by training.

    Args:
        network: whose weights every candidate's training starts from.
        training: of every candidate.
        memory: evaluations of this trial and others, and who is at which.
    """

    def __init__(self, network: Network, training: Training, memory: Memory) -> None:
        self.network, self.training = network, training
        self._memory = memory
        self._cohort = COHORT
        self._ahead: dict[str, Score] = {}  # of candidates that were trained before their turn

    def key(self, candidate: Assignment) -> str:
        """Equal for candidates whose evaluation is the same."""
        return evaluation_key(self.network, candidate, self.training)

    def score(self, candidate: Assignment, upcoming: Callable[[int], Sequence[Assignment]]) -> Score:
        """The score of a candidate; others that come next are trained beside it where nobody has them.

        Args:
            upcoming: gives at most so many candidates: this one, and those that come next whatever its cost.
        """
        key = self.key(candidate)
        if key not in self._ahead:
            if known := self._memory.recall(key):
                return Score.of(known)
            self._train(self._unclaimed(upcoming(self._cohort)))
        return self._ahead.pop(key)

    def release(self) -> None:
        """Leave what was trained for later steps to others: this trial takes no more here."""
        self._give_up(self._ahead)
        self._ahead = {}

    def _unclaimed(self, candidates: Sequence[Assignment]) -> dict[str, Assignment]:
        """The first candidate and others to train beside it, by key.

        They end before the first that another trial is at: it may come to wait for those that follow.
        """
        first, *others = candidates
        wanted = {self.key(first): first}
        for candidate in others:
            key = self.key(candidate)
            if key in wanted or key in self._ahead:
                continue
            claimed = self._memory.claim(key)
            if claimed == "another's":
                break
            if claimed == "mine":
                wanted[key] = candidate
        return wanted

    def _train(self, wanted: dict[str, Assignment]) -> None:
        """Train all, or the first alone where they can only be trained one at a time."""
        try:
            scores = self._trained(list(wanted.values()))
            self._ahead |= dict(zip(wanted, scores, strict=False))
        finally:
            self._give_up(wanted.keys() - self._ahead.keys())

    def _trained(self, candidates: Sequence[Assignment]) -> list[Score]:
        try:
            return evaluate(self.network, candidates, self.training)
        except AloneError:
            self._cohort = 1
            return evaluate(self.network, candidates[:1], self.training)

    def _give_up(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._memory.release(key)
