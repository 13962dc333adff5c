from __future__ import annotations

from pathlib import Path

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.search.course import Sweep
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal
from safs_ray.tune.status import status


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
