"""Training: what it is given, how it is done, and the loop that does it."""

from safs_ray.training.averaging import Mean
from safs_ray.training.context import Context, Report, silent
from safs_ray.training.trainer import AloneError, Standing, Trainer, TrainingResult, diverging, train
from safs_ray.training.training import Training, digest, sparse_training

__all__ = [
    "AloneError",
    "Context",
    "Mean",
    "Report",
    "Standing",
    "Trainer",
    "Training",
    "TrainingResult",
    "digest",
    "diverging",
    "silent",
    "sparse_training",
    "train",
]
