"""Lines for a person while a Tune sweep runs."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from safs_ray.config import Configuration
from safs_ray.search.chain import Course
from safs_ray.tune.progress import Clock, log, percent


class SearchProgress(Callback):
    """Lines of a sweep: every step of every trial.

    Args:
        course: of every trial.
        trials: how many there will be.
    """

    def __init__(self, configuration: Configuration, course: Course, trials: int) -> None:
        self._configuration = configuration
        self._course = course
        self._trials = trials
        self._numbers: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._best = 0.0

    def setup(self, *_: Any, **__: Any) -> None:
        """Start the clock for the epochs that are left, in a new process too."""
        done = sum(self._epochs(steps) for steps in self._steps.values())
        self._clock = Clock(self._epochs(self._course.steps) * self._trials - done)

    def get_state(self) -> dict[str, Any]:
        return {"numbers": dict(self._numbers), "steps": dict(self._steps), "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        self._numbers, self._steps, self._best = state["numbers"], state["steps"], state["best"]
        self.setup()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        number = self._number(trial)
        step, steps = result["training_iteration"], self._course.steps
        self._clock.done += self._epochs(step) - self._epochs(self._steps.get(trial.trial_id, 0))
        self._steps[trial.trial_id] = step
        self._best = max(self._best, result["best_accuracy"])
        log.info(
            "trial %2d of %d %s  step %2d of %2d  %-11s  validation %s  trial %s  best %s  %-8s  ≤ %s left",
            number, self._trials, trial, step, steps, result["phase"],
            percent(result["validation_accuracy"]), percent(result["best_accuracy"]), percent(self._best),
            _verdict(result), self._clock.left(),
        )  # fmt: skip

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, step = self._number(trial), self._steps.get(trial.trial_id, 0)
        skipped = self._epochs(self._course.steps) - self._epochs(step)
        self._clock.epochs -= skipped
        if skipped:
            broken = trial.last_result["fine_tuning"] and trial.last_result["diverged"]
            why = "its fine-tuning diverged" if broken else "stopped by ASHA, weaker than others were there"
            log.info("trial %2d ended after step %d: %s", number, step, why)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        log.info("trial %2d failed; see %s", self._number(trial), trial.error_file)

    def _number(self, trial: Trial) -> int:
        """1 for the trial that was first heard of."""
        return self._numbers.setdefault(trial.trial_id, len(self._numbers) + 1)

    def _epochs(self, steps: int) -> int:
        return self._course.epochs(steps, self._configuration)


def _verdict(result: dict[str, Any]) -> str:
    if result["diverged"]:
        return "diverged"
    if result["repeated"]:
        return "known"
    return "accepted" if result["accepted"] else "rejected"
