"""What an experiment will do, and how long that takes."""

from __future__ import annotations

import time

import torch

from safs_ray import schedules
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.experiment.finalists import finalist_epochs
from safs_ray.experiment.rows import Row
from safs_ray.network import Network
from safs_ray.search.course import Course, Sweep, joint, operators_only, scales_only
from safs_ray.training import Context, Trainer, Training


def sweeps(configuration: Configuration) -> list[tuple[Course, int]]:
    """What the trials of each sweep of a run do, and how many trials it has."""
    trials = configuration.tune.trials
    if configuration.search.protocol == "joint":
        planned = [(joint(configuration), trials)]
    else:
        operators = operators_only(configuration), configuration.search.chains
        planned = [operators, (scales_only(configuration, Sweep.SAFS), trials)]
    if Row.SCALES in configuration.final.ablations:
        planned.append((scales_only(configuration, Sweep.SCALES), trials))
    return planned


def plan(configuration: Configuration) -> dict[str, int]:
    """Epochs of each part of a run in which no trial is stopped, and no evaluation stopped or repeated."""
    section, final, courses = configuration.search, configuration.final, sweeps(configuration)
    return {
        "dense training": dense_epochs(configuration),
        "pruning": pruning_epochs(configuration) * (2 if section.when == "before" else 1),
        "search": sum(count * course.evaluations * section.epochs for course, count in courses),
        "fine-tuning": sum(
            count * course.stretches * configuration.finetune.epochs_per_step for course, count in courses
        ),
        "finalists": sum(finalist_epochs(configuration, min(count, final.finalists)) for _, count in courses),
        "final evaluation": (2 + len(final.ablations)) * final.folds * final.epochs,
    }


def dense_epochs(configuration: Configuration) -> int:
    """Epochs that the dense network is trained."""
    return 0 if configuration.model.weights else configuration.dense.epochs


def pruning_epochs(configuration: Configuration) -> int:
    """Epochs that :func:`prune` trains."""
    if configuration.search.when == "during" or configuration.model.pruned:
        return 0
    return schedules.epochs(configuration.pruning) + (configuration.pruning.rewind or 0)


def seconds_per_epoch(configuration: Configuration, network: Network, splits: Splits) -> float:
    """Wall time of one epoch of this network on the cores of one trial, measured on three batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(configuration.tune.resources.cpu)
    try:
        return _measured(configuration, network, splits)
    finally:
        torch.set_num_threads(threads)


def _measured(configuration: Configuration, network: Network, splits: Splits) -> float:
    few = splits.train[: 3 * configuration.dense.hyperparameters.batch_size]
    context = Context(configuration, Splits(few, few[:1], few[:0]))
    trainer = Trainer([network], Training(context, configuration.dense.hyperparameters, 2, context.seed))
    trainer.run_epoch()  # the first is slower: torch prepares
    start = time.perf_counter()
    trainer.run_epoch()
    validation = 1 / 3  # an image without gradients costs about a third of one with them
    images = len(splits.train) + validation * len(splits.validation)
    return (time.perf_counter() - start) / (len(few) + validation) * images
