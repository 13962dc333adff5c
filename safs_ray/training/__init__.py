"""Training: what it is given, how it is done, and the loops that do it."""

from safs_ray.training.averaging import Mean
from safs_ray.training.context import Context, Report, silent
from safs_ray.training.loop import LoopContext, LoopTrainer
from safs_ray.training.making import TrainingResult, begin, diverging, measure, train
from safs_ray.training.trainer import AloneError, Standing, Trainer
from safs_ray.training.training import Training, digest, sparse_training

__all__ = [
    "AloneError",
    "Context",
    "LoopContext",
    "LoopTrainer",
    "Mean",
    "Report",
    "Standing",
    "Trainer",
    "Training",
    "TrainingResult",
    "begin",
    "digest",
    "diverging",
    "measure",
    "silent",
    "sparse_training",
    "train",
]
