"""What an experiment will do."""

from __future__ import annotations

from safs_ray import schedules
from safs_ray.config import AUTO, Configuration
from safs_ray.experiment.finalists import finalist_epochs
from safs_ray.experiment.pruners import rounds
from safs_ray.experiment.rows import Row, sparse_rows
from safs_ray.search.course import Course, Sweep, joint, operators_only, scales_only


def sweeps(configuration: Configuration) -> list[tuple[Course, int]]:
    """What the trials of each sweep of a run do, and how many trials it has; no sweeps without a search."""
    trials = configuration.tune.trials
    if not configuration.search.steps:
        return []
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
    rows = len(sparse_rows(configuration))
    return {
        "dense training": dense_epochs(configuration),
        "pruning": pruning_epochs(configuration) * (2 if section.when == "before" else 1),
        "search": sum(count * course.evaluations * section.epochs for course, count in courses),
        "fine-tuning": sum(
            count * course.stretches * configuration.finetune.epochs_per_step for course, count in courses
        ),
        "finalists": sum(finalist_epochs(configuration, count) for _, count in courses),
        "final evaluation": rows * final.folds * final.epochs,
    }


def dense_epochs(configuration: Configuration) -> int:
    """Epochs that the dense network is trained."""
    return 0 if configuration.model.weights else configuration.dense.epochs


def pruning_epochs(configuration: Configuration) -> int:
    """Epochs that :func:`prune` trains."""
    if configuration.search.when == "during" or configuration.model.pruned:
        return 0
    if configuration.pruning.recipe == AUTO:
        return sum(epochs * count for epochs, count in rounds(configuration))
    return schedules.epochs(configuration.pruning) + (configuration.pruning.rewind or 0)
