"""What a run has not done because its budget ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from safs_ray.config import AUTO, Configuration, counted
from safs_ray.experiment.finalists import finalist_trainings
from safs_ray.experiment.planning import sweeps
from safs_ray.experiment.pruners import part, rounds
from safs_ray.experiment.rows import sparse_rows
from safs_ray.experiment.stage import FINAL, Executor, finalists_place, part_of
from safs_ray.search.course import Sweep


def budget_of(configuration: Configuration, executor: Executor) -> dict[str, Any] | None:
    """The budget of a run in seconds, what of it was spent until now, and what it was too short for; None without."""
    if not configuration.run.budget:
        return None
    budget = executor.budget
    begun = Counter(sweep for sweep, _ in {(step.sweep, step.trial) for step in executor.evaluations()})
    return {
        "seconds": configuration.run.budget_seconds,
        "spent": budget.spent,
        "missing": list(missing(configuration, budget.left_out, begun)),
    }


def missing(configuration: Configuration, left_out: Sequence[str], begun: Counter[Sweep]) -> Iterator[str]:
    """What was left out, part by part, in words.

    Args:
        left_out: names of stages and sweeps.
        begun: trials of each sweep.
    """
    count = Counter(map(part_of, left_out))
    if configuration.pruning.recipe == AUTO:
        for epochs, recipes in rounds(configuration):
            if out := count[part(epochs)]:
                yield f"{out} of {counted(recipes, 'pruner')} tried for {counted(epochs, 'epoch')}"
    for course, trials in sweeps(configuration):
        if count[course.sweep]:
            yield f"the rest of {course.sweep}, of whose {counted(trials, 'trial')} {begun[course.sweep]} had begun"
        if out := count[finalists_place(course.sweep)]:
            of = finalist_trainings(configuration, trials)
            yield f"{out} of {counted(of, 'training')} of the finalists of {course.sweep}"
    if out := count[FINAL]:
        of = len(sparse_rows(configuration)) * configuration.final.folds
        yield f"{out} of {counted(of, 'final training')}"
