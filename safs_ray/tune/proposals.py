"""Which trials a sweep runs: those that were under way when it was interrupted, then new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from safs_ray.search.assignment import Assignment
from safs_ray.search.hyperparameters import Propose
from safs_ray.tune.journal import Ending, Past

TRIAL = "trial"
"""Key of a trial's name in its config."""

START = "start"
"""Key of the assignment that a trial starts from, its operators joined by commas, where another trial found it."""

METRIC = "best_accuracy"
"""What trials are compared by: the highest validation accuracy of a trial's phase so far."""


class Proposals(Searcher):
    """Gives Tune the trials of a sweep, and writes into the journal which it gave and how they ended.

    Args:
        past: of the sweep; what is done is not run again.
        count: trials of the sweep, those in the past included.
        propose: the hyperparameters of those that are not in the journal.
        start: the assignment that these start from; None for what the configuration says.
        budget_ended: whether there is no more time for the sweep.
    """

    def __init__(
        self,
        past: Past,
        count: int,
        propose: Propose,
        start: Callable[[], Assignment | None],
        budget_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._journal, self._course, self._count = past.journal, past.course, count
        self._propose, self._start, self._budget_ended = propose, start, budget_ended
        self._waiting = past.unfinished
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The config of the next trial."""
        all_begun = not self._waiting and len(self._journal.entries) == self._count
        if all_begun or self._budget_ended():
            return Searcher.FINISHED
        if self._waiting:
            number = self._waiting.pop(0)
        else:
            trials = [(entry.hyperparameters, entry.accuracy) for entry in self._journal.entries if entry.ended]
            number = self._journal.propose(self._propose(len(self._journal.entries), trials), self._start())
        self._numbers[trial_id] = number
        entry = self._journal.entries[number]
        start = {START: ",".join(entry.start)} if entry.start else {}
        return {TRIAL: self._course.trial(number), "hyperparameters": entry.hyperparameters.model_dump(), **start}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing follows from a trial before its end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write down how a trial ended; one that failed, or that was interrupted, has not ended."""
        number = self._numbers.pop(trial_id)
        if result and result["done"] and not error:
            steps = result["training_iteration"]
            self._journal.end(number, self._ending(result, steps), steps, result[METRIC])

    def _ending(self, result: dict[str, Any], steps: int) -> Ending:
        if result["fine_tuning"] and result["diverged"]:
            return "diverged"
        if steps == self._course.steps:
            return "finished"
        return "cut" if self._budget_ended() else "stopped"

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is on storage already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is resumed from its journal."""
