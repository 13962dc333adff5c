"""The experiment: from a dense network to the table of results (Loni, Mohan, Asadi & Lindauer 2023).

It knows neither Ray nor files: it asks an :class:`Executor` for what it needs.
"""

from safs_ray.experiment.expectation import expectation
from safs_ray.experiment.experiment import run
from safs_ray.experiment.finalists import finalist_epochs
from safs_ray.experiment.forecasting import Workers, forecast
from safs_ray.experiment.planning import plan, pruning_epochs, sweeps
from safs_ray.experiment.rows import Row, rows_of, sparse_rows, start_of
from safs_ray.experiment.stage import (
    BEST,
    DENSE,
    FINAL,
    PRUNED,
    PRUNED_AGAIN,
    Executor,
    FailedSearchError,
    Outcome,
    Stage,
    final,
    finalists_place,
)

__all__ = [
    "BEST",
    "DENSE",
    "FINAL",
    "PRUNED",
    "PRUNED_AGAIN",
    "Executor",
    "FailedSearchError",
    "Outcome",
    "Row",
    "Stage",
    "Workers",
    "expectation",
    "final",
    "finalist_epochs",
    "finalists_place",
    "forecast",
    "plan",
    "pruning_epochs",
    "rows_of",
    "run",
    "sparse_rows",
    "start_of",
    "sweeps",
]
