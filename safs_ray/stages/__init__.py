"""One function per stage: a network and splits in, a network and its accuracy out. No Ray.

The data flow of a run::

    train_dense ─ prune ─┬─ search ─ finish   the row "SAFS", on each fold
                         └─ finish            the row "pruned", with default activations, on each fold

Of several searches, ``choose`` takes the one whose recipe does best when it is trained again.

With ``search.when`` before, ``search`` goes on from the dense network, and ``prune`` follows with the assignment
found; with during, ``prune`` is left out, and every training of ``search`` and ``finish`` prunes anew.

``given`` takes the place of ``train_dense``, or of both, where a network is there to start from. ``finish`` and
``test`` alone read the test images, once.
"""

from safs_ray.stages.beginning import given, train_dense
from safs_ray.stages.finishing import finish, test
from safs_ray.stages.planning import finalist_epochs, plan, pruning_epochs, seconds_per_epoch, sweeps
from safs_ray.stages.preparing import check, folds, load, searchable, set_up, specify
from safs_ray.stages.pruning import prune
from safs_ray.stages.recipe import Recipe
from safs_ray.stages.result import METRICS, Result
from safs_ray.stages.searching import Found, choose, finalists_of, search, train_finalist, winner_of

__all__ = [
    "METRICS",
    "Found",
    "Recipe",
    "Result",
    "check",
    "choose",
    "finalist_epochs",
    "finalists_of",
    "finish",
    "folds",
    "given",
    "load",
    "plan",
    "prune",
    "pruning_epochs",
    "search",
    "searchable",
    "seconds_per_epoch",
    "set_up",
    "specify",
    "sweeps",
    "test",
    "train_dense",
    "train_finalist",
    "winner_of",
]
