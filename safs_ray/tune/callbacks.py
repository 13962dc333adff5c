"""What Ray Tune tells of a sweep, handed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from safs_ray.experiment.progress import BUDGET_ENDED, SweepProgress


class Progress(Callback):
    """Lets a :class:`~safs_ray.experiment.progress.SweepProgress` know what trials do."""

    def __init__(self, progress: SweepProgress, steps: int, budget_ended: Callable[[], bool] = lambda: False) -> None:
        self._progress, self._steps, self._budget_ended = progress, steps, budget_ended

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._progress.step(str(trial), result["training_iteration"], result, result["recorded"] == "before")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last, why = trial.last_result, ""
        if last["training_iteration"] < self._steps:
            why = self._why(last)
        self._progress.end(str(trial), why)

    def _why(self, last: dict[str, Any]) -> str:
        """Why a trial has ended whose last step was this."""
        if last["fine_tuning"] and last["diverged"]:
            return "its fine-tuning diverged"
        return BUDGET_ENDED if self._budget_ended() else "stopped by ASHA, weaker than others were there"

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._progress.fail(str(trial))


class IdleWorkers(Callback):
    """Finds other work for the workers that the last trials of a sweep leave idle.

    Args:
        trials: of the sweep.
        workers: trials that run at a time.
        fill: has other work done by so many workers, for the rest of the sweep.
    """

    def __init__(self, trials: int, workers: int, fill: Callable[[int], None]) -> None:
        self._trials, self._workers, self._fill = trials, workers, fill

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        statuses = [trial.status for trial in trials]
        running, begun = statuses.count(Trial.RUNNING), len(trials) == self._trials and Trial.PENDING not in statuses
        if begun and running:
            self._fill(self._workers - running)
