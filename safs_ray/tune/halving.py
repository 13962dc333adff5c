"""ASHA (Li et al. 2020) as a sweep needs it that can be resumed: nothing drawn anew, nothing forgotten."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

from safs_ray.randomness import derive


class SuccessiveHalving(AsyncHyperBandScheduler):
    """ASHA in which a trial's bracket follows from the seed and the trial's name.

    Ray draws it from NumPy's global generator. The odds are Ray's: brackets that begin earlier, and so have more
    rungs, are the likelier ones, by e for each rung.
    """

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._seed = seed
        self._expected: dict[str, tuple[int, bool]] = {}

    def remember(self, trial: str, accuracies: Mapping[int, float]) -> None:
        """Take a trial that has ended into the rungs that it reached.

        Args:
            accuracies: by step, from 1.
        """
        for milestone, reached in self._bracket(trial)._rungs:
            if milestone in accuracies:
                reached[trial] = accuracies[milestone]

    def expect(self, trial: str, steps: int, stopped: bool) -> None:
        """Decide again as before on a trial that will report steps that it had taken already.

        Args:
            steps: that it had taken; it is stopped at none before the last of them, and there if it was.
        """
        self._expected[trial] = steps, stopped

    @property
    def decisions(self) -> set[int]:
        """The steps, from 1, after which it may stop a trial."""
        rungs = {math.ceil(milestone) for bracket in self._brackets for milestone, _ in bracket._rungs}
        return rungs | {steps for steps, stopped in self._expected.values() if stopped}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        self._trial_info[trial.trial_id] = self._bracket(str(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        steps, stopped = self._expected.get(str(trial), (0, False))
        if result[self._time_attr] > steps or (result[self._time_attr] == steps and not stopped):
            return decision
        return self.STOP if result[self._time_attr] == steps else self.CONTINUE

    def _bracket(self, trial: str) -> Any:
        odds = [math.exp(len(bracket._rungs)) for bracket in self._brackets]
        return random.Random(derive(self._seed, "bracket", trial)).choices(self._brackets, odds)[0]
