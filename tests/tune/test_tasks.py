from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.util.queue import Queue

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.stages import Recipe, Result
from safs_ray.storage import Folder
from safs_ray.training import Report
from safs_ray.tune.tasks import Run, run_tasks

RECIPE = Recipe(("relu", "tanh"), Hyperparameters(learning_rate=5e-3), learn_scales=True)


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    """A Ray of these tests' own, with a single core."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def run(configuration: Configuration, tmp_path: Path) -> Run:
    return Run(configuration, Folder.at(tmp_path), Queue(actor_options={"num_cpus": 0}))


def test_a_stage_is_made_once(run: Run, pruned: Result) -> None:
    assert run.once("stage", 1, lambda *_: pruned).network.fingerprint == pruned.network.fingerprint
    again = run.once("stage", 1, lambda *_: pytest.fail("made twice"))
    assert again.network.fingerprint == run.result("stage").network.fingerprint == pruned.network.fingerprint


@pytest.mark.parametrize("name", ["metrics.json", "network.json", "network.safetensors"])
def test_a_damaged_stage_is_made_again(run: Run, pruned: Result, tmp_path: Path, name: str) -> None:
    run.once("stage", 1, lambda *_: pruned)
    file = tmp_path / "networks" / "stage" / name
    file.write_bytes(file.read_bytes()[:-30])
    better = replace(pruned, validation_accuracy=0.75)
    assert run.once("stage", 1, lambda *_: better).validation_accuracy == 0.75
    told = run.news.get()
    assert told.startswith("warning: ")
    assert f"{name} is not what was written there" in told
    assert run.result("stage").validation_accuracy == 0.75


def test_a_damaged_stage_keeps_what_it_was_made_with(run: Run, pruned: Result, tmp_path: Path) -> None:
    run.made_with(RECIPE, "found")
    run.once("found", 1, lambda *_: pruned)
    file = tmp_path / "networks" / "found" / "metrics.json"
    file.write_bytes(file.read_bytes()[:-30])
    run.once("found", 1, lambda *_: pruned)
    run.made_with(RECIPE, "found")
    assert run.kept("found"), "the same recipe deletes nothing"


def test_rows_are_made_anew_for_another_recipe_alone(run: Run, pruned: Result, tmp_path: Path) -> None:
    run.made_with(RECIPE, "final/SAFS")
    run.once("final/SAFS/fold-0", 1, lambda *_: pruned)
    run.made_with(RECIPE, "final/SAFS")
    assert run.kept("final/SAFS/fold-0")
    run.made_with(replace(RECIPE, learn_scales=False), "final/SAFS")
    assert run.kept("final/SAFS/fold-0") is None
    run.once("final/SAFS/fold-0", 1, lambda *_: pruned)
    (tmp_path / "networks" / "final" / "SAFS" / "recipe.json").write_text("{")
    run.made_with(RECIPE, "final/SAFS")
    assert run.kept("final/SAFS/fold-0") is None, "nobody knows what it was made with"


def test_a_stage_deletes_its_own_checkpoints_alone(run: Run, pruned: Result) -> None:
    run.checkpoints("other").save("training", {"epoch": 1})

    def make(_: Report, checkpoints: Checkpoints) -> Result:
        checkpoints.save("training", {"epoch": 2})
        return pruned

    run.once("stage", 1, make)
    assert run.checkpoints("stage").load("training") is None
    run.once("stage", 1, make)
    assert run.checkpoints("other").load("training") == {"epoch": 1}


def tells_much(run: Run, stage: str, seconds: float, pruned: Result) -> None:
    """Ray task: a stage with an epoch every hundredth of a second, which leaves when it began and ended."""
    began, epochs = time.time(), round(100 * seconds)

    def make(report: Report, _: Checkpoints) -> Result:
        for epoch in range(1, epochs + 1):
            time.sleep(0.01)
            report(epoch, 0.5)
        return pruned

    run.once(stage, epochs, make)
    run.folder.write_json(f"{stage}.json", [began, time.time()])


def test_a_task_keeps_its_core_while_it_tells(run: Run, pruned: Result, caplog: pytest.LogCaptureFixture) -> None:
    """The first lasts longer than Ray needs to start a process for the second, should it find the core unused."""
    with caplog.at_level("INFO", "safs_ray"):
        run_tasks(run, [(tells_much, ("first", 6, pruned)), (tells_much, ("second", 0.1, pruned))], 610)
    assert run.folder.read_json("first.json")[1] <= run.folder.read_json("second.json")[0]
    for stage, last in (("first", 600), ("second", 10)):
        assert any(line.startswith(f"{stage} ") and f" {last} of " in line for line in caplog.messages)
