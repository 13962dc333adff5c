"""A sweep that is over: its journal and its evaluations."""

from __future__ import annotations

from dataclasses import replace

from safs_ray.config import Configuration
from safs_ray.search.course import Course, Sweep, joint
from safs_ray.search.evaluation import Evaluation, canonical
from safs_ray.search.records import JOURNALS, to_parquet
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal, Past
from tests.experiment.executors import FOUND


def past(configuration: Configuration, folder: Folder, sweep: Sweep = Sweep.SAFS) -> Past:
    """A sweep whose trials have all reached their end, in the folder of its run."""
    planned = joint(configuration)
    course, journal = Course(sweep, planned.evaluations, planned.stretches), Journal(folder / JOURNALS, sweep)
    evaluations = []
    for outcome in FOUND:
        recipe, accuracy = outcome.recipe, outcome.accuracy
        number = journal.propose(recipe.hyperparameters)
        journal.end(number, "finished", course.steps, accuracy)
        first = Evaluation(
            sweep, course.trial(number), 0, "fine-tuning", "", recipe.assignment, canonical(recipe.hyperparameters),
            2, 0, accuracy, accuracy, 1 - accuracy, accepted=True, diverged=False, repeated=False, core_seconds=1.0,
        )  # fmt: skip
        evaluations += [replace(first, iteration=iteration) for iteration in range(course.steps)]
    (folder / "evaluations").write("part-00000.parquet", to_parquet(evaluations))
    return Past(course, journal, evaluations)
