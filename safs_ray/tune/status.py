"""How far a run has come: what of it is finished and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from safs_ray import experiment
from safs_ray.config import AUTO, Configuration, counted
from safs_ray.experiment import DENSE, FINAL, PRUNED, PRUNED_AGAIN, final, finalists_place, sparse_rows
from safs_ray.experiment.finalists import finalist_trainings
from safs_ray.experiment.pruners import part, place, rounds
from safs_ray.experiment.results import read_finalists
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal


class Part(NamedTuple):
    """What is done of a part of an experiment.

    Attributes:
        name: as :func:`safs_ray.experiment.forecasting.forecast` has it.
        share: that is done, in (0, 1].
        words: what it is.
    """

    name: str
    share: float
    words: str


def status(configuration: Configuration, folder: Folder) -> str:
    """For instance "finished and kept: dense training, pruning, 2 of 8 trials of SAFS (9 steps); the rest is left"."""
    done = ", ".join(part.words for part in parts_done(configuration, folder))
    return f"finished and kept: {done or 'nothing yet'}; the rest is left"


def parts_done(configuration: Configuration, folder: Folder) -> Iterator[Part]:
    """The parts of a run of which something is done, in their order."""
    networks = folder / "networks"
    words = {DENSE: "dense training", PRUNED: "pruning", PRUNED_AGAIN: "pruning with the operators that were found"}
    yield from (Part(stage, 1, words[stage]) for stage in words if networks.exists(f"{stage}/metrics.json"))
    yield from _tries_done(configuration, networks)
    finalists = read_finalists(networks / "finalists")
    steps = Counter(evaluation.sweep for evaluation in read_evaluations(folder / "evaluations"))
    for course, trials in experiment.sweeps(configuration):
        entries = Journal(folder / JOURNALS, course.sweep).entries
        if entries:
            ended = sum(entry.ended is not None for entry in entries)
            of_them = f"{ended} of {counted(trials, 'trial')} of {course.sweep}"
            yield Part(course.sweep, min(1, ended / trials), f"{of_them} ({counted(steps[course.sweep], 'step')})")
        if again := finalists.get(course.sweep):
            trained = sum(len(finalist["validation_accuracy"]["values"]) for finalist in again.values())
            share = trained / finalist_trainings(configuration, trials)
            yield Part(finalists_place(course.sweep), min(1, share), f"{trained} of its finalists' trainings")
    rows = sparse_rows(configuration)
    finals = [final(row, fold) for row in rows for fold in range(configuration.final.folds)]
    if trained := sum(networks.exists(f"{stage}/metrics.json") for stage in finals):
        yield Part(FINAL, trained / len(finals), f"{trained} of {counted(len(finals), 'final training')}")


def _tries_done(configuration: Configuration, networks: Folder) -> Iterator[Part]:
    """The rounds of the choice of a pruner."""
    if configuration.pruning.recipe != AUTO or configuration.model.pruned:
        return
    for epochs, count in rounds(configuration):
        done = sum(networks.exists(f"{place(name, epochs)}/metrics.json") for name in configuration.pruning.tried)
        if done:
            words = f"{done} of {counted(count, 'pruner')} tried for {counted(epochs, 'epoch')}"
            yield Part(part(epochs), done / count, words)
