"""What happens beside a Tune sweep: lines for a person, and what Tune forgets when a sweep is resumed."""

from __future__ import annotations

import copy
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

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
            log.info("trial %2d stopped by ASHA after step %d: weaker than others were there", number, step)

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


class RungKeeper(Callback):
    """Saves ASHA's rungs in every snapshot: Ray restores the scheduler without what it had recorded.

    Ray pickles the callbacks and the scheduler in one piece, so that the scheduler held here stays, after a
    restore too, the one that decides.
    """

    def __init__(self, scheduler: AsyncHyperBandScheduler) -> None:
        self._scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        return {"rungs": copy.deepcopy([bracket._rungs for bracket in self._scheduler._brackets])}

    def set_state(self, state: dict[str, Any]) -> None:
        for bracket, rungs in zip(self._scheduler._brackets, state["rungs"], strict=True):
            bracket._rungs = rungs
