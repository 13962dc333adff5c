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
    earlier = _of_earlier(uri)
    for key, (old, new) in differences(earlier, configuration).items():
        if key.startswith(SAME):
            other = "what it has trained is something else"
            raise refusal("tune.warm_start", uri, f"has {key}={old!r}, this run {new!r}: {other}")


def as_earlier(asked: Configuration, found: Configuration) -> Configuration:
    """What was found by trying the machine, as the run of ``tune.warm_start`` had found it where both ask for the same.

    Args:
        asked: what the user said.
        found: the same with what a new run has found: the multiply-adds of a latency, and a precision.

    Raises:
        ConfigurationError: the folder holds no run.
    """
    if not asked.tune.warm_start:
        return found
    earlier, pruning, run = _of_earlier(asked.tune.warm_start), found.pruning, found.run
    if asked.pruning.latency is not None and asked.pruning.latency == earlier.pruning.latency:
        kept = {"macs": earlier.pruning.macs, "sparsity": earlier.pruning.sparsity}
        pruning = pruning.model_copy(update=kept)
    if asked.run.precision == "auto":
        run = run.model_copy(update={"precision": earlier.run.precision})
    return found.model_copy(update={"pruning": pruning, "run": run})


def _of_earlier(uri: str) -> Configuration:
    """The configuration of the run in a folder.

    Raises:
        ConfigurationError: there is none, or it cannot be read.
    """
    with blaming("tune.warm_start", uri):
        source = Folder.at(uri)
        if not source.exists(CONFIGURATION):
            raise refusal("tune.warm_start", uri, f"holds no {CONFIGURATION}; allowed: the folder of a run")
        return validate(parse(source.read(CONFIGURATION).decode(), f"{source}/{CONFIGURATION}"))


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
