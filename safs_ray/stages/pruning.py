"""From the dense network to the sparse one."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import torch

from safs_ray import schedules
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, refusal
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.stages.beginning import dense_training
from safs_ray.stages.result import Result, untrained
from safs_ray.training import Report, Trainer, Training, silent


def prune(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Make a dense network sparse by ``pruning.schedule``; one shot without epochs only sets weights to zero.

    With ``search.when`` during, the network stays dense: the trainings that follow make it sparse. Warns when
    nothing is left of a layer.

    Raises:
        ConfigurationError: the retraining diverged.
    """
    if configuration.search.when == "during":
        return untrained(network, configuration, splits, device)
    start = time.process_time()
    section = configuration.pruning
    seed = derive(configuration.run.seed, "retraining")
    training = Training(
        splits,
        section.hyperparameters,
        section.epochs,
        seed,
        device,
        configuration.data,
        configuration.run,
        checkpoints=checkpoints,
    )
    rewound, before = None, 0.0
    if section.rewind is not None:
        rewound, before = _early(network, configuration, splits, device, report, checkpoints)
        report = schedules.shifted(report, section.rewind)
    pruned, score, retraining_before = schedules.prune(schedules.Task(network, section, training, rewound, report))
    if warning := pruned.survey.warning:
        warnings.warn(warning, stacklevel=2)
    return Result(pruned, score, before + retraining_before + time.process_time() - start)


def _early(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    device: torch.device,
    report: Report,
    checkpoints: Checkpoints | None,
) -> tuple[Network, float]:
    """What the network was after the first epochs of its dense training, which are trained again bit for bit.

    Returns:
        It, and the core-seconds that were spent on it before an interruption.

    Raises:
        ConfigurationError: the training diverged.
    """
    initial = Network.initial(network.specification, derive(configuration.run.seed, "dense"))
    if network.groups > 1:
        initial = initial.grouped(network.groups)
    training = replace(dense_training(configuration, splits, device), checkpoints=checkpoints)
    trainer = Trainer(initial.assign(network.assignment), training)
    while trainer.epoch < (configuration.pruning.rewind or 0):
        trainer.run_epoch()
        if trainer.diverged:
            told = f"the training diverges before pruning.rewind={configuration.pruning.rewind}; take a smaller one"
            raise refusal("dense.hyperparameters.learning_rate", training.hyperparameters.learning_rate, told)
        report(trainer.epoch, trainer.accuracy)
    return trainer.current(), trainer.core_seconds_before
