"""How far a run has come, in one sentence: what is finished and what is not."""

from __future__ import annotations

from collections import Counter

from safs_ray import experiment
from safs_ray.config import Configuration, counted
from safs_ray.experiment import Row, final, rows_of
from safs_ray.experiment.results import read_finalists
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal


def status(configuration: Configuration, folder: Folder) -> str:
    """For instance "finished and kept: dense training, pruning, 2 of 8 trials of SAFS (9 steps); the rest is left"."""
    networks, done = folder / "networks", []
    if networks.exists("dense/metrics.json"):
        done.append("dense training")
    if networks.exists("pruned/metrics.json"):
        done.append("pruning")
    finalists = read_finalists(networks / "finalists")
    steps = Counter(evaluation.sweep for evaluation in read_evaluations(folder / "evaluations"))
    for course, trials in experiment.sweeps(configuration):
        entries = Journal(folder / JOURNALS, course.sweep).entries
        if entries:
            ended = sum(entry.ended is not None for entry in entries)
            taken = counted(steps[course.sweep], "step")
            done.append(f"{ended} of {counted(trials, 'trial')} of {course.sweep} ({taken})")
        if again := finalists.get(course.sweep):
            trained = sum(len(finalist["validation_accuracy"]["values"]) for finalist in again.values())
            done.append(f"{trained} of its finalists' trainings")
    rows = [row for row in rows_of(configuration) if row is not Row.DENSE]
    finals = [final(row, fold) for row in rows for fold in range(configuration.final.folds)]
    trained = sum(networks.exists(f"{stage}/metrics.json") for stage in finals)
    if trained:
        done.append(f"{trained} of {counted(len(finals), 'final training')}")
    return f"finished and kept: {', '.join(done) or 'nothing yet'}; the rest is left"
