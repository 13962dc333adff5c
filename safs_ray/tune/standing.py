"""How far a run has come, in one sentence: what is finished and what is not."""

from __future__ import annotations

from collections import Counter

from safs_ray import stages
from safs_ray.config import Configuration, counted
from safs_ray.report import results
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal
from safs_ray.tune.tasks import final


def standing(configuration: Configuration, folder: Folder) -> str:
    """For instance "finished and kept: dense training, pruning, 2 of 8 trials of SAFS (9 steps); the rest is left"."""
    networks, done = folder / "networks", []
    if networks.exists("dense/metrics.json"):
        done.append("dense training")
    if networks.exists("pruned/metrics.json"):
        done.append("pruning")
    finalists = results.finalists(folder)
    steps = Counter(evaluation.sweep for evaluation in read_evaluations(folder / "evaluations"))
    for course, trials in stages.sweeps(configuration):
        entries = Journal(folder / JOURNALS, course.sweep).entries
        if entries:
            ended = sum(entry.ended is not None for entry in entries)
            taken = counted(steps[course.sweep], "step")
            done.append(f"{ended} of {counted(trials, 'trial')} of {course.sweep} ({taken})")
        if again := finalists.get(course.sweep):
            trained = sum(len(finalist["validation_accuracy"]["values"]) for finalist in again.values())
            done.append(f"{trained} of its finalists' trainings")
    rows = ("pruned", *configuration.final.ablations, "SAFS")
    finals = [final(row, fold) for row in rows for fold in range(configuration.final.folds)]
    trained = sum(networks.exists(f"{stage}/metrics.json") for stage in finals)
    if trained:
        done.append(f"{trained} of {counted(len(finals), 'final training')}")
    return f"finished and kept: {', '.join(done) or 'nothing yet'}; the rest is left"
