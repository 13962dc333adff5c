"""One function per stage: a network and a context in, a result out. No Ray.

The data flow of an experiment::

    train_dense ─ prune ─┬─ search ─ train_finalist ─ finish   the row "SAFS", on each fold
                         └─ finish                             the row "pruned", with the network's own activations

``from_file`` takes the place of ``train_dense``, or of both, where a network is there to start from. ``finish`` and
``test`` alone read the test images, once.
"""

from safs_ray.stages.beginning import from_file, train_dense
from safs_ray.stages.finishing import finish, test, train_finalist
from safs_ray.stages.preparing import check, folds, load, searchable, set_up, specify
from safs_ray.stages.pruning import prune
from safs_ray.stages.result import METRICS, Result, untrained
from safs_ray.stages.searching import Search, search

__all__ = [
    "METRICS",
    "Result",
    "Search",
    "check",
    "finish",
    "folds",
    "from_file",
    "load",
    "prune",
    "search",
    "searchable",
    "set_up",
    "specify",
    "test",
    "train_dense",
    "train_finalist",
    "untrained",
]
