"""From the dense network to the sparse one."""

from __future__ import annotations

import time
import warnings

from safs_ray import schedules
from safs_ray.config import refusal
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.schedules import Task
from safs_ray.sparse.compact import without_remains
from safs_ray.stages.beginning import dense_training
from safs_ray.stages.result import Result, untrained
from safs_ray.training import Context, begin, sparse_training


def prune(network: Network, context: Context) -> Result:
    """Make a dense network sparse by ``pruning.schedule``; one shot without epochs only sets weights to zero.

    With ``search.when`` during, the network stays dense: the trainings that follow make it sparse. Warns when
    nothing is left of a layer.

    Raises:
        ConfigurationError: the retraining diverged.
    """
    if context.configuration.search.when == "during":
        return untrained(network, context)
    start, section = time.process_time(), schedules.shared(context.configuration.pruning)
    rewound, before = None, 0.0
    if section.rewind is not None:
        rewound, before = _early(network, section.rewind, context)
        context = context.after(section.rewind)
    seed = derive(context.seed, "retraining")
    training = sparse_training(context, section.hyperparameters, section.epochs, seed)
    pruned, score, retraining_before = schedules.follow(Task(network, section, training, rewound))
    if section.prunes_channels:
        pruned = without_remains(pruned)
    if warning := pruned.survey.warning:
        warnings.warn(warning, stacklevel=2)
    return Result(pruned, score, before + retraining_before + time.process_time() - start)


def _early(network: Network, epochs: int, context: Context) -> tuple[Network, float]:
    """What the network was after the first epochs of its dense training, which are trained again bit for bit.

    Returns:
        It, and the core-seconds that were spent on it before an interruption.

    Raises:
        ConfigurationError: the training diverged.
    """
    initial = Network.initial(network.specification, derive(context.seed, "dense"))
    if network.groups > 1:
        initial = initial.grouped(network.groups)
    training = dense_training(context)
    trainer = begin([initial.assign(network.assignment)], training)
    while trainer.epoch < epochs:
        trainer.run_epoch()
        if trainer.diverged:
            fault = f"the training diverges before pruning.rewind={epochs}; take a smaller one"
            raise refusal("dense.hyperparameters.learning_rate", training.hyperparameters.learning_rate, fault)
        context.report(trainer.epoch, trainer.standing.accuracy)
    return trainer.current(), trainer.core_seconds_before
