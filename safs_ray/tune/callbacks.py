"""What Ray Tune tells of a sweep, handed on."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from safs_ray.experiment.progress import SweepProgress


class Progress(Callback):
    """Lets a :class:`~safs_ray.experiment.progress.SweepProgress` know what trials do."""

    def __init__(self, progress: SweepProgress, steps: int) -> None:
        self._progress, self._steps = progress, steps

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._progress.step(str(trial), result["training_iteration"], result, result["recorded"] == "before")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last, why = trial.last_result, ""
        if last["training_iteration"] < self._steps:
            broken = last["fine_tuning"] and last["diverged"]
            why = "its fine-tuning diverged" if broken else "stopped by ASHA, weaker than others were there"
        self._progress.end(str(trial), why)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._progress.fail(str(trial))
