"""ASHA (Li et al. 2020) as a sweep needs it that can be resumed: nothing drawn anew, nothing forgotten."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

from safs_ray.randomness import derive


class SuccessiveHalving(AsyncHyperBandScheduler):
    """ASHA in which a trial's bracket follows from the seed and the trial's name.

    Ray draws it from NumPy's global generator, and again when a sweep is resumed. The odds are Ray's: brackets that
    begin earlier, and so have more rungs, are the likelier ones, by e for each rung.
    """

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._seed = seed

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        odds = [math.exp(len(bracket._rungs)) for bracket in self._brackets]
        draws = random.Random(derive(self._seed, "bracket", str(trial)))
        (self._trial_info[trial.trial_id],) = draws.choices(self._brackets, odds)


class RungKeeper(Callback):
    """Saves the rungs of every bracket in every snapshot: Ray restores the scheduler without what it had recorded.

    Ray pickles the callbacks and the scheduler in one piece, so that the scheduler held here stays, after a
    restore too, the one that decides.
    """

    def __init__(self, scheduler: SuccessiveHalving) -> None:
        self._scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        return {"rungs": copy.deepcopy([bracket._rungs for bracket in self._scheduler._brackets])}

    def set_state(self, state: dict[str, Any]) -> None:
        for bracket, rungs in zip(self._scheduler._brackets, state["rungs"], strict=True):
            bracket._rungs = rungs
