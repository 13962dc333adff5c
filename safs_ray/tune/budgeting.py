"""What a new run does in its budget."""

from __future__ import annotations

import math
import time

from safs_ray.config import CONFIGURATION, Configuration
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.budgeting import planned
from safs_ray.experiment.forecasting import SecondsPerEpoch, forecast
from safs_ray.log import duration
from safs_ray.tune.announcement import workers
from safs_ray.tune.invocation import Invocation


def in_budget(
    configuration: Configuration, invocation: Invocation, epoch: SecondsPerEpoch
) -> tuple[Configuration, list[str]]:
    """The configuration of what a run can do in its budget, and lines that say so.

    It is as it was without a budget, and of a run that was begun: there it has followed from the budget before.

    Args:
        epoch: what one takes here.

    Raises:
        ConfigurationError: the budget does not hold the trainings that no run can do without.
    """
    if not configuration.run.budget or invocation.folder.exists(CONFIGURATION):
        return configuration, []
    left = configuration.run.budget_seconds - (time.monotonic() - invocation.began)
    return planned(configuration, invocation.beside_budget, left, lambda some: forecast(some, epoch, workers(some)))


def left_of(budget: Budget) -> list[str]:
    """A line on what a run that goes on has left of its budget; none without one."""
    if math.isinf(budget.seconds):
        return []
    return [f"budget     {duration(budget.seconds)}, of which {duration(max(0.0, budget.left))} are left"]
