"""What a run will do, and how long that takes."""

from __future__ import annotations

import time

import torch

from safs_ray import schedules
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.search.chain import Course, joint, stage_1, stage_2
from safs_ray.training import Trainer, Training


def sweeps(configuration: Configuration) -> list[tuple[Course, int]]:
    """What the trials of each sweep of a run do, and how many trials it has."""
    trials = configuration.tune.trials
    if configuration.search.protocol == "joint":
        found = [(joint(configuration), trials)]
    else:
        found = [(stage_1(configuration), configuration.search.chains), (stage_2(configuration, "SAFS"), trials)]
    if "stage 2" in configuration.final.ablations:
        found.append((stage_2(configuration, "stage 2"), trials))
    return found


def plan(configuration: Configuration) -> dict[str, int]:
    """Epochs of each part of a run in which no trial is stopped, and no evaluation stopped or repeated."""
    section, final, courses = configuration.search, configuration.final, sweeps(configuration)
    return {
        "dense training": 0 if configuration.model.weights else configuration.dense.epochs,
        "pruning": pruning_epochs(configuration) * (2 if section.when == "before" else 1),
        "search": sum(count * course.evaluations * section.epochs for course, count in courses),
        "fine-tuning": sum(
            count * course.stretches * configuration.finetune.epochs_per_step for course, count in courses
        ),
        "finalists": sum(finalist_epochs(configuration, min(count, final.finalists)) for _, count in courses),
        "final evaluation": (2 + len(final.ablations)) * final.folds * final.epochs,
    }


def finalist_epochs(configuration: Configuration, finalists: int) -> int:
    """Epochs that so many finalists of a sweep are trained in all; one alone has won."""
    return finalists * configuration.final.seeds * configuration.final.epochs if finalists > 1 else 0


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
    training = Training(
        Splits(few, few[:1], few[:0]),
        configuration.dense.hyperparameters,
        epochs=2,
        seed=configuration.run.seed,
        device=torch.device("cpu"),
        data=configuration.data,
        run=configuration.run,
    )
    trainer = Trainer(network, training)
    trainer.run_epoch()  # the first is slower: torch prepares
    start = time.perf_counter()
    trainer.run_epoch()
    validation = 1 / 3  # an image without gradients costs about a third of one with them
    images = len(splits.train) + validation * len(splits.validation)
    return (time.perf_counter() - start) / (len(few) + validation) * images
