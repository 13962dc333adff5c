"""One function per stage: a network and a context in, a result out. No Ray.

The data flow of an experiment::

    train_dense ─ prune ─┬─ search ─ train_finalist ─ finish   the row "SAFS", on each fold
                         └─ finish                             the row "pruned", with the network's own activations

``teach`` gives the images of a data set the logits of the dense network, which the trainings after it may learn from.
``from_file`` takes the place of ``train_dense``, or of both, where a network is there to start from. ``finish`` and
``test`` alone read the test images, once.

Examples:
    >>> from safs_ray.config import validate
    >>> from safs_ray.training import Context
    >>> configuration = validate({
    ...     "data": {"size": 8, "limit": 60, "validation": 0.2}, "model": {"name": "mlp"}, "dense": {"epochs": 1},
    ...     "pruning": {"sparsity": 0.9, "epochs": 1}, "search": {"steps": 2, "epochs": 1},
    ...     "finetune": {"epochs": 1, "epochs_per_step": 1}, "tune": {"grace_period": 1},
    ...     "final": {"folds": 1, "epochs": 1}, "run": {"execution": "dense"},
    ... })
    >>> dataset = load(configuration)
    >>> context = Context(configuration, folds(configuration, dataset).search())
    >>> dense = train_dense(specify(configuration, dataset, context.splits), context)
    >>> pruned = prune(dense.network, context)
    >>> pruned.network.nonzero_weights, pruned.network.prunable_count
    (5020, 50200)
    >>> best = search(pruned.network, context, configuration.pruning.hyperparameters)
    >>> [evaluation.phase for evaluation in best.evaluations]
    ['search', 'search', 'fine-tuning']
    >>> last_context = Context(configuration, folds(configuration, dataset).final(0))
    >>> last = finish(pruned.network, last_context, best.recipe, fold=0)
    >>> last.network.assignment == best.assignment, last.network.nonzero_weights
    (True, 5020)
"""

from safs_ray.stages.beginning import from_file, train_dense
from safs_ray.stages.classes import read_classes, write_classes
from safs_ray.stages.finishing import finish, test, train_finalist
from safs_ray.stages.latency import meet_latency
from safs_ray.stages.precision import choose_precision
from safs_ray.stages.preparing import (
    check,
    device_here,
    flushes_subnormals,
    folds,
    load,
    searchable,
    set_up,
    specify,
)
from safs_ray.stages.pruning import prune
from safs_ray.stages.result import METRICS, Result, untrained
from safs_ray.stages.searching import Search, search
from safs_ray.stages.teaching import teach

__all__ = [
    "METRICS",
    "Result",
    "Search",
    "check",
    "choose_precision",
    "device_here",
    "finish",
    "flushes_subnormals",
    "folds",
    "from_file",
    "load",
    "meet_latency",
    "prune",
    "read_classes",
    "search",
    "searchable",
    "set_up",
    "specify",
    "teach",
    "test",
    "train_dense",
    "train_finalist",
    "untrained",
    "write_classes",
]
