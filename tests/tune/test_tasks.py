from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.stages import Recipe, Result
from safs_ray.storage import Folder
from safs_ray.tune.tasks import Run

RECIPE = Recipe(("relu", "tanh"), Hyperparameters(learning_rate=5e-3), learn_scales=True)


@pytest.fixture
def run(configuration: Configuration, tmp_path: Path) -> Run:
    news: Any = Queue()  # the standard library's, in this process
    return Run(configuration, Folder.at(tmp_path), news)


def test_a_stage_is_made_once(run: Run, pruned: Result) -> None:
    assert run.once("stage", 1, lambda _: pruned).network.fingerprint == pruned.network.fingerprint
    again = run.once("stage", 1, lambda _: pytest.fail("made twice"))
    assert again.network.fingerprint == run.result("stage").network.fingerprint == pruned.network.fingerprint


@pytest.mark.parametrize("name", ["metrics.json", "network.json", "network.safetensors"])
def test_a_damaged_stage_is_made_again(run: Run, pruned: Result, tmp_path: Path, name: str) -> None:
    run.once("stage", 1, lambda _: pruned)
    file = tmp_path / "networks" / "stage" / name
    file.write_bytes(file.read_bytes()[:-30])
    better = replace(pruned, validation_accuracy=0.75)
    assert run.once("stage", 1, lambda _: better).validation_accuracy == 0.75
    told = run.news.get_nowait()
    assert told.startswith("warning: ")
    assert f"{name} is not what was written there" in told
    assert run.result("stage").validation_accuracy == 0.75


def test_rows_are_made_anew_for_another_recipe_alone(run: Run, pruned: Result, tmp_path: Path) -> None:
    run.made_with(RECIPE, "final/SAFS")
    run.once("final/SAFS/fold-0", 1, lambda _: pruned)
    run.made_with(RECIPE, "final/SAFS")
    assert run.kept("final/SAFS/fold-0")
    run.made_with(replace(RECIPE, learn_scales=False), "final/SAFS")
    assert run.kept("final/SAFS/fold-0") is None
    run.once("final/SAFS/fold-0", 1, lambda _: pruned)
    (tmp_path / "networks" / "final" / "SAFS" / "recipe.json").write_text("{")
    run.made_with(RECIPE, "final/SAFS")
    assert run.kept("final/SAFS/fold-0") is None, "nobody knows what it was made with"
