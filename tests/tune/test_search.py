from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from ray.util.queue import Queue

from safs_ray import stages
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.search.chain import joint
from safs_ray.search.evaluation import Evaluation, canonical
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Found, Recipe, Result
from safs_ray.storage import Folder
from safs_ray.tune.board import open_board
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.search import FailedSearchError, _winner, search
from safs_ray.tune.tasks import Run

WILD = Hyperparameters(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, momentum=0.99, batch_size=8)
CALM = Hyperparameters(learning_rate=5e-3, batch_size=32)
FOUND = (
    (Recipe(("relu", "tanh"), CALM, learn_scales=True), 0.3),
    (Recipe(("symexp", "symexp"), WILD, learn_scales=True), 0.9),
    (Recipe(("tanh", "swish"), CALM, learn_scales=True), 0.5),
    (Recipe(("tanh", "tanh"), CALM, learn_scales=True), 0.1),
)
"""What the trials of a sweep have found, and how well; the second diverges when it is trained again."""


@pytest.fixture
def run(configuration: Configuration, tmp_path: Path, cluster: None) -> Run:  # noqa: ARG001
    return Run(configuration, Folder.at(tmp_path), Queue(actor_options={"num_cpus": 0}))


def past(configuration: Configuration, folder: Folder) -> Past:
    """A sweep whose trials have all ended."""
    course, journal = joint(configuration), Journal(folder / JOURNALS, "SAFS")
    evaluations = []
    for recipe, accuracy in FOUND:
        number = journal.propose(recipe.hyperparameters)
        journal.end(number, "finished", course.steps, accuracy)
        first = Evaluation(
            "SAFS", course.trial(number), 0, "fine-tuning", "", recipe.assignment, canonical(recipe.hyperparameters),
            2, 0, accuracy, accuracy, 1 - accuracy, accepted=True, diverged=False, repeated=False, core_seconds=1.0,
        )  # fmt: skip
        evaluations += [replace(first, iteration=iteration) for iteration in range(course.steps)]
    return Past(course, journal, evaluations)


def written(folder: Path) -> dict[str, int]:
    """When each training of a finalist was done."""
    files = folder.glob("networks/finalists/SAFS/*/*/metrics.json")
    return {str(path.parent.relative_to(folder / "networks/finalists/SAFS")): path.stat().st_mtime_ns for path in files}


def test_the_finalist_that_does_best_when_trained_again_wins_however_often_it_is_asked(
    run: Run,
    configuration: Configuration,
    dataset: Dataset,
    pruned: Result,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    sweep = past(configuration, run.folder)
    (run.folder / "networks/finalists/SAFS/trial-9/seed-0").write(
        "metrics.json", b"of a finalist that is none any more"
    )
    arrays = dataset.without_test().arrays()
    winner = _winner(sweep, pruned.network, run, arrays)
    splits = replace(stages.folds(configuration, dataset).search(), test=None)
    found = [Found(pruned.network.assign(recipe.assignment), recipe, accuracy, ()) for recipe, accuracy in FOUND]
    chosen = stages.choose(found, pruned.network, configuration, splits, torch.device("cpu"))
    assert winner == chosen.recipe in (FOUND[0][0], FOUND[2][0]), "the same as in one process"
    done = written(tmp_path)
    assert set(done) == {f"trial-{number}/seed-{seed}" for number in (1, 2, 3) for seed in (0, 1)}
    assert run.result("finalists/SAFS/trial-2/seed-0").validation_accuracy == 0
    means = {
        number: sum(run.result(f"finalists/SAFS/trial-{number}/seed-{seed}").validation_accuracy for seed in (0, 1)) / 2
        for number in (1, 3)
    }
    assert FOUND[max(means, key=means.__getitem__) - 1][0] == winner
    (told,) = [line for line in caplog.messages if "wins" in line]
    assert told.endswith(" % in the search)")
    assert f"{100 * max(means.values()):.1f} %, the mean of 2 trainings (" in told

    for path in (tmp_path / "networks/finalists/SAFS/trial-3/seed-1").iterdir():
        path.unlink()  # as if it had been killed there
    assert _winner(sweep, pruned.network, run, arrays) == winner
    again = written(tmp_path)
    assert {stage for stage in done if again[stage] != done[stage]} == {"trial-3/seed-1"}, "no other is made again"

    board = "board of finalists"
    sweep.journal.crown(winner)
    kept = open_board(board, str(tmp_path / "evaluations"), "/nowhere")
    for evaluation in sweep._ledger.evaluations:
        ray.get(kept.record.remote(evaluation))
    assert search(sweep.course, pruned.network, run, arrays, board) == winner
    assert written(tmp_path) == again


def test_the_best_trial_wins_as_it_is_where_it_is_the_only_finalist(
    configuration: Configuration, dataset: Dataset, pruned: Result, tmp_path: Path
) -> None:
    one = configuration.model_copy(update={"final": configuration.final.model_copy(update={"finalists": 1})})
    nobody: Queue = None  # type: ignore[assignment]
    alone, arrays = Run(one, Folder.at(tmp_path), nobody), dataset.without_test().arrays()
    sweep = past(one, alone.folder)
    assert _winner(sweep, pruned.network, alone, arrays) == FOUND[1][0]
    for number in range(len(FOUND)):
        sweep.journal.end(number, "stopped", 6, 0.9)
    with pytest.raises(FailedSearchError, match="none of 4 trials reached its end; 0 failed"):
        _winner(sweep, pruned.network, alone, arrays)
    sweep.journal.end(3, "finished", 6, 0.1)
    assert _winner(sweep, pruned.network, Run(configuration, alone.folder, nobody), arrays) == FOUND[3][0]
    assert not written(tmp_path)
