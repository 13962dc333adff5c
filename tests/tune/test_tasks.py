from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from ray.util.queue import Queue

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset, Splits
from safs_ray.experiment import Stage
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.progress import Clock
from safs_ray.experiment.stage import Make
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context
from safs_ray.tune.tasks import Run, Tasks

Once = Callable[[str, Make], None]
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


@pytest.fixture
def once(run: Run, splits: Splits) -> Once:
    """Makes a stage of this name, unless it was made before."""
    return lambda name, make: run.once(Stage(name, 1, make), splits, torch.device("cpu"))


def test_a_stage_is_made_once(run: Run, once: Once, pruned: Result) -> None:
    once("stage", lambda *_: pruned)
    assert run.result("stage").network.fingerprint == pruned.network.fingerprint
    once("stage", lambda *_: pytest.fail("made twice"))
    assert run.result("stage").network.fingerprint == pruned.network.fingerprint


@pytest.mark.parametrize("name", ["metrics.json", "network.json", "network.safetensors"])
def test_a_damaged_stage_is_made_again(run: Run, once: Once, pruned: Result, tmp_path: Path, name: str) -> None:
    once("stage", lambda *_: pruned)
    file = tmp_path / "networks" / "stage" / name
    file.write_bytes(file.read_bytes()[:-30])
    better = replace(pruned, validation_accuracy=0.75)
    once("stage", lambda *_: better)
    told = run.news.get()
    assert told.startswith("warning: ")
    assert f"{name} is not what was written there" in told
    assert run.result("stage").validation_accuracy == 0.75


def test_a_damaged_stage_keeps_what_it_was_made_with(run: Run, once: Once, pruned: Result, tmp_path: Path) -> None:
    run.discard_unless(RECIPE, "found")
    once("found", lambda *_: pruned)
    file = tmp_path / "networks" / "found" / "metrics.json"
    file.write_bytes(file.read_bytes()[:-30])
    once("found", lambda *_: pruned)
    run.discard_unless(RECIPE, "found")
    assert run.previous("found"), "the same recipe deletes nothing"


def test_rows_are_made_anew_for_another_recipe_alone(run: Run, once: Once, pruned: Result, tmp_path: Path) -> None:
    run.discard_unless(RECIPE, "final/SAFS")
    once("final/SAFS/fold-0", lambda *_: pruned)
    run.discard_unless(RECIPE, "final/SAFS")
    assert run.previous("final/SAFS/fold-0")
    run.discard_unless(replace(RECIPE, learn_scales=False), "final/SAFS")
    assert run.previous("final/SAFS/fold-0") is None
    once("final/SAFS/fold-0", lambda *_: pruned)
    (tmp_path / "networks" / "final" / "SAFS" / "recipe.json").write_text("{")
    run.discard_unless(RECIPE, "final/SAFS")
    assert run.previous("final/SAFS/fold-0") is None, "nobody knows what it was made with"


def test_a_stage_deletes_its_own_checkpoints_alone(run: Run, once: Once, pruned: Result) -> None:
    run.checkpoints("other").save("training", {"epoch": 1})

    def make(_: Result | None, context: Context) -> Result:
        assert context.checkpoints
        context.checkpoints.save("training", {"epoch": 2})
        return pruned

    once("stage", make)
    assert run.checkpoints("stage").load("training") is None
    once("stage", make)
    assert run.checkpoints("other").load("training") == {"epoch": 1}


class Timed(Run):
    """Leaves when each stage began and ended."""

    def once(self, stage: Stage, splits: Splits, device: torch.device, until: float = math.inf) -> None:
        began = time.time()
        super().once(stage, splits, device, until)
        self.folder.write_json(f"{stage.name}.json", [began, time.time()])


def tells_much(name: str, seconds: float, pruned: Result) -> Stage:
    """A stage with an epoch every hundredth of a second."""
    epochs = round(100 * seconds)

    def make(_: Result | None, context: Context) -> Result:
        for epoch in range(1, epochs + 1):
            time.sleep(0.01)
            context.report(epoch, 0.5)
        return pruned

    return Stage(name, epochs, make)


def test_a_task_keeps_its_core_while_it_tells(
    run: Run, dataset: Dataset, pruned: Result, caplog: pytest.LogCaptureFixture
) -> None:
    """The first lasts longer than Ray needs to start a process for the second, should it find the core unused."""
    timed, arrays = Timed(run.configuration, run.folder, run.news), ray.put(dataset.without_test().arrays())
    with caplog.at_level("INFO", "safs_ray"):
        stages = tells_much("first", 6, pruned), tells_much("second", 0.1, pruned)
        Tasks(timed, Clock({})).run([(stage, arrays) for stage in stages])
    (_, end), (begin, _) = sorted(run.folder.read_json(f"{stage}.json") for stage in ("first", "second"))
    assert end <= begin, "Ray may begin with either, but not with the other before it has ended"
    for stage, last in (("first", 600), ("second", 10)):
        assert any(line.startswith(f"{stage} ") and f" {last} of " in line for line in caplog.messages)


def test_tasks_that_are_begun_on_the_side_are_gone_on_with_and_begun_once(
    run: Run, dataset: Dataset, pruned: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of four stages one was made before, one is begun on the side, and one more when that is done."""

    def counted(name: str) -> Stage:
        def make(_: Result | None, context: Context) -> Result:
            with (tmp_path / "made.txt").open("a") as file:
                file.write(f"{name}\n")
            context.report(1, 0.5)
            time.sleep(0.5)
            context.report(2, 0.5)
            return pruned

        return Stage(name, 2, make)

    def made() -> list[str]:
        return (tmp_path / "made.txt").read_text().split() if (tmp_path / "made.txt").exists() else []

    arrays = ray.put(dataset.without_test().arrays())
    clock = Clock({"before": 10.0, "first": 10.0, "second": 10.0, "third": 10.0})
    tasks = Tasks(run, clock)
    wanted = [(counted(name), arrays) for name in ("before", "first", "second", "third")]
    pruned.save(run.folder / "networks/before")
    with caplog.at_level("INFO", "safs_ray"):
        fill = tasks.filler(wanted)
        fill(0)
        assert caplog.messages == []
        until = time.monotonic() + 60
        while made() != ["first", "second"] and time.monotonic() < until:
            fill(1)
            time.sleep(0.05)
        tasks.run(wanted)
    assert made() == ["first", "second", "third"]
    begun = [line for line in caplog.messages if "begins" in line]
    assert begun == [f"{name} begins beside the last trials" for name in ("first", "second")]
    for name in ("first", "second", "third"):
        assert any(line.startswith(f"{name} ") and "epoch   2 of   2" in line for line in caplog.messages)
    assert all(run.has(stage.name) for stage, _ in wanted)
    assert clock.parts == dict.fromkeys(clock.parts, 0.0)


def test_tasks_that_fail_on_the_side_are_told_of_when_they_are_wanted(run: Run, dataset: Dataset) -> None:
    def make(*_: object) -> Result:
        raise ValueError("no such layer")

    tasks, wanted = Tasks(run, Clock({})), [(Stage("stage", 1, make), ray.put(dataset.without_test().arrays()))]
    tasks.filler(wanted)(1)
    with pytest.raises(ValueError, match="no such layer"):
        tasks.run(wanted)


def test_tasks_left_out_are_not_begun_and_keep_nothing_of_another_recipe(
    run: Run, dataset: Dataset, pruned: Result, told: pytest.LogCaptureFixture
) -> None:
    """A run that goes on has found another recipe for a row that its budget was once too short for."""
    run.discard_unless(replace(RECIPE, learn_scales=False), "final/SAFS")
    pruned.save(run.folder / "networks/final/SAFS/fold-0")
    stage = Stage("final/SAFS/fold-1", 1, lambda *_: pruned, recipe=RECIPE, expendable=True)
    wanted = [(stage, ray.put(dataset.without_test().arrays()))]
    tasks = Tasks(run, Clock({}, Budget(left_out=["final/SAFS/fold-1"])))
    tasks.run(wanted)
    assert not run.has("final/SAFS/fold-0")
    tasks.filler(wanted)(1)
    assert told.messages == [], "none begins"
    assert not run.has("final/SAFS/fold-1")
