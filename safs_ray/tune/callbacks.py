"""Lines for a person while a Tune sweep runs."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from safs_ray.config import Configuration
from safs_ray.log import event, log, percent
from safs_ray.tune.journal import Past
from safs_ray.tune.progress import Clock

TOLD = (
    "phase", "assignment", "validation_accuracy", "best_accuracy", "cost", "accepted", "repeated", "diverged"
)  # fmt: skip
"""What the event of a step has of its result."""


class SearchProgress(Callback):
    """Lines of a sweep: every step of every trial.

    Args:
        past: of the sweep.
        trials: how many there will be.
    """

    def __init__(self, configuration: Configuration, past: Past, trials: int) -> None:
        self._configuration = configuration
        self._course = past.course
        self._trials = trials
        self._steps: dict[str, int] = {}
        entries = past.journal.entries
        self._best = max((entries[number].accuracy for number in past.complete), default=0.0)
        self._epochs_left = self._epochs(self._course.steps) * (trials - len(past.complete))

    def setup(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._clock = Clock(self._epochs_left)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        step, steps = result["training_iteration"], self._course.steps
        epochs = self._epochs(step) - self._epochs(self._steps.get(trial.trial_id, 0))
        self._steps[trial.trial_id] = step
        self._best = max(self._best, result["best_accuracy"])
        if result["recorded"] == "before":
            self._clock.epochs -= epochs
            return
        self._clock.done += epochs
        log.info(
            "%-8s of %d  step %2d of %2d  %-11s  validation %s  trial %s  best %s  %-8s  ≤ %s left",
            trial, self._trials, step, steps, result["phase"],
            percent(result["validation_accuracy"]), percent(result["best_accuracy"]), percent(self._best),
            _verdict(result), self._clock.left(),
            extra=event(
                "step", **self._told(trial), step=step, seconds_left=self._clock.seconds_left,
                **{key: result[key] for key in TOLD},
            ),
        )  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        step = self._steps.get(trial.trial_id, 0)
        skipped = self._epochs(self._course.steps) - self._epochs(step)
        self._clock.epochs -= skipped
        if skipped:
            broken = trial.last_result["fine_tuning"] and trial.last_result["diverged"]
            why = "its fine-tuning diverged" if broken else "stopped by ASHA, weaker than others were there"
            details = event("ended", **self._told(trial), step=step, why=why)
            log.info("%-8s ended after step %d: %s", trial, step, why, extra=details)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        log.info("%-8s failed", trial, extra=event("failed", **self._told(trial)))

    def _told(self, trial: Trial) -> dict[str, Any]:
        return {"sweep": self._course.sweep, "trial": str(trial)}

    def _epochs(self, steps: int) -> int:
        return self._course.epochs(steps, self._configuration)


def _verdict(result: dict[str, Any]) -> str:
    if result["diverged"]:
        return "diverged"
    if result["repeated"]:
        return "known"
    return "accepted" if result["accepted"] else "rejected"
