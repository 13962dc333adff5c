from __future__ import annotations

from pathlib import Path

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.experiment import Stage
from safs_ray.experiment.pruners import part, place
from safs_ray.search.course import Sweep
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal
from safs_ray.tune.status import parts_done, status


def test_what_is_finished_and_what_is_not(
    tmp_path: Path, configuration: Configuration, dense: Result, pruned: Result
) -> None:
    folder = Folder.at(tmp_path)
    assert status(configuration, folder) == "finished and kept: nothing yet; the rest is left"
    dense.save(folder / "networks" / "dense")
    assert status(configuration, folder) == "finished and kept: dense training; the rest is left"
    pruned.save(folder / "networks" / "pruned")
    journal = Journal(folder / JOURNALS, Sweep.SAFS)
    journal.end(journal.propose(Hyperparameters()), "stopped", 2, 0.5)
    journal.propose(Hyperparameters())
    pruned.save(folder / "networks" / "final" / "pruned" / "fold-1")
    pruned.save(folder / "networks" / "finalists" / "SAFS" / "trial-1" / "seed-0")
    assert status(configuration, folder) == (
        "finished and kept: dense training, pruning, 1 of 3 trials of SAFS (0 steps), "
        "1 of its finalists' trainings, 1 of 4 final trainings; the rest is left"
    )


def test_pruners_that_were_tried_are_finished(tmp_path: Path, configuration: Configuration, dense: Result) -> None:
    pruning = configuration.pruning.model_copy(update={"recipe": "auto", "recipes": ("erk", "gradual"), "epochs": 8})
    auto, folder = configuration.model_copy(update={"pruning": pruning}), Folder.at(tmp_path)
    dense.save(folder / "networks" / "dense")
    dense.save(folder / "networks" / "pruners" / "erk" / "epochs-2")
    assert status(auto, folder) == (
        "finished and kept: dense training, 1 of 2 pruners tried for 2 epochs; the rest is left"
    )
    (_, tries) = parts_done(auto, folder)
    assert (tries.name, tries.share) == (part(2), 0.5)
    assert part(2) == Stage(place("erk", 2), 2, lambda *_: dense).part
