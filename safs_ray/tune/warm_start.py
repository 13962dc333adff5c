"""What a run takes over from an earlier one of the same pruned network.

It is copied into the run's own folder, so that the run needs the other one no more.
"""

from __future__ import annotations

from safs_ray.config import CONFIGURATION, Configuration, Hyperparameters, parse, refusal, validate
from safs_ray.search.course import Course
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Result
from safs_ray.storage import Folder, blaming
from safs_ray.tune.changes import differences
from safs_ray.tune.journal import Journal

EARLIER = "earlier"
"""Folder of a run: evaluations and journals of the run that it was started from."""

COMPLETE = "complete.json"

SAME = (
    "data.", "model.", "task.", "dense.", "training.", "pruning.", "run.seed", "run.precision", "search.when",
    "final.folds",
)  # fmt: skip
"""What decides on the pruned network, and so on what an evaluation means; folds hold images out of every training."""


def check_earlier(configuration: Configuration, folder: Folder) -> None:
    """See to it that :func:`take_over` can take what ``tune.warm_start`` names.

    Raises:
        ConfigurationError: the folder holds no run, or one of another pruned network.
    """
    uri = configuration.tune.warm_start
    if not uri or _has_taken_over(folder):
        return
    with blaming("tune.warm_start", uri):
        source = Folder.at(uri)
        if not source.exists(CONFIGURATION):
            raise refusal("tune.warm_start", uri, f"holds no {CONFIGURATION}; allowed: the folder of a run")
        earlier = validate(parse(source.read(CONFIGURATION).decode(), f"{source}/{CONFIGURATION}"))
    for key, (old, new) in differences(earlier, configuration).items():
        if key.startswith(SAME):
            other = "what it has trained is something else"
            raise refusal("tune.warm_start", uri, f"has {key}={old!r}, this run {new!r}: {other}")


def take_over(configuration: Configuration, folder: Folder) -> None:
    """Copy networks, evaluations and journals of ``tune.warm_start``, once, before a run begins.

    Raises:
        ConfigurationError: something cannot be read or written, or is damaged.
    """
    uri = configuration.tune.warm_start
    if not uri or _has_taken_over(folder):
        return
    with blaming("tune.warm_start", uri):
        source = Folder.at(uri)
        for stage in ("dense", "pruned"):
            result = Result.load(source / "networks" / stage)
            if result:
                result.save(folder / "networks" / stage)
        for kind in ("evaluations", JOURNALS):
            for name in (source / kind).names():
                (folder / EARLIER / kind).write(name, (source / kind).read(name))
        (folder / EARLIER).write_json(COMPLETE, {"run": str(source)})


def _has_taken_over(folder: Folder) -> bool:
    return folder.exists(f"{EARLIER}/{COMPLETE}")


def earlier_trials(folder: Folder, course: Course) -> list[tuple[Hyperparameters, float]]:
    """The hyperparameters of the earlier run's trials of such a sweep that ended, and their accuracies."""
    journal = Journal(folder / EARLIER / JOURNALS, course.sweep)
    return [(entry.hyperparameters, entry.accuracy) for entry in journal.entries if entry.ended]
