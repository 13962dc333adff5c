"""The experiment: from a dense network to the table of results (Loni, Mohan, Asadi & Lindauer 2023).

It knows neither Ray nor files: it asks an :class:`Executor` for what it needs.
"""

from safs_ray.experiment.experiment import run
from safs_ray.experiment.finalists import finalist_epochs
from safs_ray.experiment.planning import plan, pruning_epochs, seconds_per_epoch, sweeps
from safs_ray.experiment.rows import Row, rows_of, start_of
from safs_ray.experiment.stage import Executor, FailedSearchError, Outcome, Stage, final, finalists_place

__all__ = [
    "Executor",
    "FailedSearchError",
    "Outcome",
    "Row",
    "Stage",
    "final",
    "finalist_epochs",
    "finalists_place",
    "plan",
    "pruning_epochs",
    "rows_of",
    "run",
    "seconds_per_epoch",
    "start_of",
    "sweeps",
]
