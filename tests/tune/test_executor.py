from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import ray
import torch

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration
from safs_ray.data import Dataset, Folds
from safs_ray.experiment import Stage
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.finalists import Default, winner
from safs_ray.experiment.local import InProcess
from safs_ray.experiment.progress import Clock
from safs_ray.experiment.results import Finalists
from safs_ray.search.course import Sweep, joint
from safs_ray.search.recipe import Recipe
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context
from safs_ray.tune.board import NAMESPACE
from safs_ray.tune.executor import OnRay
from safs_ray.tune.journal import Journal
from tests.experiment.executors import FOUND, Searched
from tests.stages.altered import changed
from tests.tune.past import past


@pytest.fixture(scope="module", autouse=True)
def two_cores() -> Iterator[None]:
    """A Ray of these tests' own."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    yield
    ray.shutdown()


@pytest.fixture
def four(configuration: Configuration) -> Configuration:
    """As many trials as have been."""
    return changed(configuration, "tune", trials=len(FOUND))


@pytest.fixture
def executor(four: Configuration, dataset: Dataset, pruned: Result, tmp_path: Path) -> OnRay:
    """Of a run whose sweep is over."""
    folder = Folder.at(tmp_path)
    pruned.save(folder / "networks/pruned")
    past(four, folder)
    return OnRay(four, dataset, folder, Clock({}))


def written(folder: Path) -> dict[str, int]:
    """When each training of a finalist was done."""
    files = folder.glob("networks/finalists/SAFS/*/*/metrics.json")
    return {str(path.parent.relative_to(folder / "networks/finalists/SAFS")): path.stat().st_mtime_ns for path in files}


def test_on_ray_the_finalist_that_does_best_when_trained_again_wins_however_often_it_is_asked(
    executor: OnRay,
    four: Configuration,
    dataset: Dataset,
    pruned: Result,
    tmp_path: Path,
    told: pytest.LogCaptureFixture,
) -> None:
    default = Default(Recipe(("relu", "relu"), four.pruning.hyperparameters, learn_scales=False), "pruned")
    stale = Folder.at(tmp_path) / "networks/finalists/SAFS/trial-9/seed-0"
    stale.write("metrics.json", b"of a finalist that is none any more")

    def won(place: Searched | OnRay) -> tuple[object, Finalists]:
        finalists: Finalists = {}
        return winner(four, joint(four), "pruned", None, default, place, finalists), finalists

    recipe, finalists = won(executor)
    same, alike = won(Searched(four, dataset, {"pruned": pruned}, FOUND))
    assert recipe == same, "the same as in one process"
    recipes = {outcome.trial: outcome.recipe for outcome in FOUND} | {"default": default.recipe}
    for trial, known in alike["SAFS"].items():
        assert finalists["SAFS"][trial]["validation_accuracy"] == known["validation_accuracy"]
    done = written(tmp_path)
    trials = ("default", "trial-1", "trial-2", "trial-3")
    assert set(done) == {f"{trial}/seed-{seed}" for trial in trials for seed in (0, 1)}
    assert executor.result("finalists/SAFS/trial-2/seed-0").validation_accuracy == 0
    means = {trial: finalists["SAFS"][trial]["validation_accuracy"]["mean"] for trial in trials}
    [best] = [trial for trial in trials if finalists["SAFS"][trial]["won"]]
    assert recipes[best] == recipe
    line, _ = [line for line in told.messages if "the mean of 2 trainings" in line]
    assert f"{100 * means[best]:.1f} %, the mean of 2 trainings" in line

    for path in (tmp_path / "networks/finalists/SAFS/trial-3/seed-1").iterdir():
        path.unlink()  # as if it had been killed there
    assert won(executor)[0] == recipe
    again = written(tmp_path)
    assert {stage for stage in done if again[stage] != done[stage]} == {"trial-3/seed-1"}, "no other is made again"
    assert won(executor)[0] == recipe
    assert written(tmp_path) == again


def test_on_ray_a_sweep_that_is_over_is_not_run_again(executor: OnRay, four: Configuration, tmp_path: Path) -> None:
    before = executor.evaluations()
    assert executor.sweep(joint(four), "pruned", None) == list(FOUND)
    assert executor.evaluations() == before
    assert not (tmp_path / "search").exists(), "Tune has had nothing to do"


def test_on_ray_what_there_is_no_time_for_is_left_out_whenever_the_run_goes_on(
    executor: OnRay, four: Configuration, dataset: Dataset, pruned: Result, tmp_path: Path
) -> None:
    def make(*_: object) -> Result:
        return pruned

    late = OnRay(changed(four, "tune", trials=6), dataset, Folder.at(tmp_path), Clock({}, Budget(0)))
    stages = [Stage("final/pruned/fold-0", 1, make), Stage("final/pruned/fold-1", 1, make, expendable=True)]
    assert len(late.run(stages)) == 1
    assert (late.has("final/pruned/fold-0"), late.has("final/pruned/fold-1")) == (True, False)
    assert late.sweep(joint(four), "pruned", None) == list(FOUND), "of six trials these were over"
    assert late.budget.left_out == ["final/pruned/fold-1", "SAFS"]
    again = OnRay(four, dataset, Folder.at(tmp_path), Clock({}, Budget(left_out=late.budget.left_out)))
    assert len(again.run(stages)) == 1
    assert len(executor.run(stages)) == 2, "without a budget there is time"


class AfterSteps(Budget):
    """One that ends when the run in a folder has kept so many steps."""

    folder: Folder

    @property
    def left(self) -> float:
        return self.seconds - len(read_evaluations(self.folder / "evaluations"))


def test_on_ray_a_sweep_whose_budget_ends_stops_at_the_step_that_each_trial_is_at(
    configuration: Configuration, dataset: Dataset, pruned: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_RESULT_BUFFER_LENGTH", "1")  # a step a call, or these short trials would end in one
    folder = Folder.at(tmp_path / "other")
    pruned.save(folder / "networks/pruned")
    budget = AfterSteps(8)
    budget.folder = folder
    outcomes = OnRay(configuration, dataset, folder, Clock({}, budget)).sweep(joint(configuration), "pruned", None)
    journal = Journal(folder / JOURNALS, Sweep.SAFS)
    assert [entry.ended for entry in journal.entries] == ["finished", "cut"]
    assert sum(entry.steps for entry in journal.entries) == len(read_evaluations(folder / "evaluations")) == 8
    assert [outcome.trial for outcome in outcomes] == ["trial-1", "trial-2"]
    assert budget.left_out == ["SAFS"]
    later = Clock({}, Budget(left_out=budget.left_out))
    assert OnRay(configuration, dataset, folder, later).sweep(joint(configuration), "pruned", None) == outcomes


def test_on_ray_workers_that_the_last_trials_leave_idle_begin_what_is_wanted_next(
    configuration: Configuration,
    dataset: Dataset,
    pruned: Result,
    tmp_path: Path,
    told: pytest.LogCaptureFixture,
) -> None:
    """A single trial, of some seconds, leaves one of two cores idle: the default recipe is trained again on it."""
    one = changed(changed(configuration, "tune", trials=1, max_concurrent=2), "search", epochs=200)
    folder = Folder.at(tmp_path / "one")
    pruned.save(folder / "networks/pruned")
    place = OnRay(one, dataset, folder, Clock({}))
    default = Default(Recipe(("relu", "relu"), one.pruning.hyperparameters, learn_scales=False), "pruned")
    finalists: Finalists = {}
    winner(one, joint(one), "pruned", None, default, place, finalists)
    begun = [place for place, line in enumerate(told.messages) if line.endswith("begins beside the last trials")]
    assert told.messages[begun[0]].startswith("finalists/SAFS/default/seed-0 ")
    assert begun[0] < next(place for place, line in enumerate(told.messages) if "each trained" in line)
    alone = InProcess(one, dataset, results={"pruned": pruned})
    expected: Finalists = {}
    winner(one, joint(one), "pruned", None, default, alone, expected)
    for trial, known in expected["SAFS"].items():
        assert finalists["SAFS"][trial]["validation_accuracy"] == known["validation_accuracy"]


def test_on_ray_results_lie_in_the_folder_of_the_run(executor: OnRay, pruned: Result, tmp_path: Path) -> None:
    executor.keep("best", pruned)
    assert (tmp_path / "networks/best/metrics.json").exists()
    assert executor.result("best").network.fingerprint == pruned.network.fingerprint
    for trial in ("trial-1", "trial-2", "trial-3"):
        executor.keep(f"finalists/SAFS/{trial}/seed-0", pruned)
    executor.discard("finalists/SAFS", but=["trial-2"])
    assert set(written(tmp_path)) == {"trial-2/seed-0"}
    with pytest.raises(FileNotFoundError, match="finalists/SAFS/trial-1/seed-0 holds no complete stage"):
        executor.result("finalists/SAFS/trial-1/seed-0")


def test_on_ray_only_stages_that_test_are_given_the_test_images(executor: OnRay, pruned: Result) -> None:
    def count(_: Result | None, context: Context) -> Result:
        return Result(pruned.network, 0.5, float(len(context.splits.test)))

    blind, seeing = executor.run([Stage("blind", 1, count), Stage("seeing", 1, count, tests=True)])
    assert (blind.core_seconds, seeing.core_seconds > 0) == (0, True)


def test_on_ray_every_training_has_the_logits_of_a_teacher_and_a_run_that_goes_on_has_the_same(
    executor: OnRay, four: Configuration, dataset: Dataset, dense: Result, context: Context, tmp_path: Path
) -> None:
    def total(_: Result | None, context: Context) -> Result:
        assert context.splits.train.taught is not None
        return Result(dense.network, 0.5, context.splits.train.taught.double().sum().item())

    def totals(executor: OnRay, name: str) -> list[float]:
        executor.teach("dense")
        made = executor.run(
            [
                Stage(f"{name}-search", 1, total),
                Stage(f"{name}-last", 1, total, images=partial(Folds.final, fold=1), tests=True),
            ]
        )
        return [result.core_seconds for result in made]

    executor.keep("dense", dense)
    folds = stages.folds(four, dataset.taught(stages.teach(dense, dataset.pool, context)))
    expected = [splits.train.targets.taught for splits in (folds.search(), folds.final(1))]
    sums = [logits.double().sum().item() for logits in expected if logits is not None]
    assert totals(executor, "begun") == sums
    kept = Checkpoints(Folder.at(tmp_path / "checkpoints" / "logits"))
    assert kept.folder.names() == [dense.network.fingerprint]
    kept.save(dense.network.fingerprint, {"logits": torch.ones(len(dataset.pool), 10)})
    again = OnRay(four, dataset, executor._folder, Clock({}))
    assert totals(again, "resumed") == [10.0 * len(splits.train) for splits in (folds.search(), folds.final(1))]
