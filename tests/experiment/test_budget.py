"""Experiments whose budget ends, in this process: nothing of the time that something takes is in these tests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from safs_ray import config, experiment
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.local import InProcess
from safs_ray.experiment.progress import Clock
from safs_ray.models import Specification
from safs_ray.stages import Result
from tests.conftest import TINY

FORECAST = {
    "begin": 1.0, "dense": 10.0, "pruners/epochs-1": 8.0, "pruners/epochs-4": 4.0, "SAFS": 20.0,
    "finalists/SAFS": 6.0, "final": 5.0, "end": 2.0,
}  # fmt: skip


class Fixed(Budget):
    """One of which always so many seconds are left."""

    @property
    def left(self) -> float:
        return self.seconds


def configured(*words: str) -> Configuration:
    return config.validate(config.overridden(TINY, ["run.budget=1h", *words]))


def ran(
    configuration: Configuration,
    dataset: Dataset,
    specification: Specification,
    ready: dict[str, Result],
    budget: Budget,
) -> tuple[InProcess, dict[str, Any]]:
    executor = InProcess(configuration, dataset, results=ready, clock=Clock({}, budget))
    return executor, experiment.run(configuration, specification, executor)


@pytest.fixture(scope="module")
def ready(dense: Result, pruned: Result) -> dict[str, Result]:
    return {"dense": dense, "pruned": pruned}


def test_time_for_a_part_is_what_later_ones_leave() -> None:
    clock = Clock(FORECAST, Fixed(30))
    assert clock.time_for("SAFS") == pytest.approx(30 - 6 - 5 - 2)
    assert clock.time_for("finalists/SAFS") == pytest.approx(30 - 5 - 2)
    assert clock.time_for("final") == pytest.approx(30 - 2)
    assert clock.time_for("pruners/epochs-1") == pytest.approx(30 - 4 - 5 - 2), "the search may wait for a pruner"
    assert Clock(FORECAST).time_for("SAFS") == math.inf


def test_leaves_out_is_said_once_and_holds() -> None:
    kept: list[list[str]] = []
    budget = Fixed(12)
    budget.keep = lambda: kept.append(list(budget.left_out))
    clock = Clock(FORECAST, budget)
    assert not clock.leaves_out("final/SAFS/fold-1")
    assert clock.leaves_out("SAFS")
    budget.seconds = 1000
    assert clock.leaves_out("SAFS")
    assert not clock.leaves_out("final/SAFS/fold-1")
    assert kept == [["SAFS"]]


def test_a_budget_counts_what_was_spent_before() -> None:
    budget = Budget(100, spent=70)
    assert 70 <= budget.spent < 71
    assert 29 < budget.left <= 30


def test_an_experiment_without_time_closes_with_the_rows_that_any_table_has(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    executor, results = ran(configured(), dataset, specification, ready, Fixed(0))
    assert [row["name"] for row in results["rows"]] == ["dense", "pruned", "SAFS"]
    _, pruned, safs = results["rows"]
    assert safs["test_accuracy"] == pruned["test_accuracy"]
    assert len(safs["test_accuracy"]["values"]) == 1
    assert executor.evaluations() == []
    assert results["finished"]
    assert results["budget"]["missing"] == [
        "the rest of SAFS, of whose 3 trials 0 had begun",
        "1 of 4 final trainings",
    ]


def test_an_experiment_that_has_left_something_out_leaves_it_out_whenever_it_goes_on(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    first, before = ran(configured(), dataset, specification, ready, Fixed(0))
    second, after = ran(configured(), dataset, specification, ready, Budget(left_out=first.budget.left_out))
    assert second.budget.left_out == first.budget.left_out
    assert second.result("best").network.fingerprint == first.result("best").network.fingerprint
    assert after["budget"]["missing"] == before["budget"]["missing"]


class AfterSteps(Budget):
    """One that ends when a sweep has taken so many steps."""

    executor: InProcess

    @property
    def left(self) -> float:
        return self.seconds - len(self.executor.evaluations())


def test_a_sweep_whose_budget_ends_has_found_what_its_trials_have_until_then(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    budget = AfterSteps(8)
    executor = InProcess(configured(), dataset, results=ready, clock=Clock({}, budget))
    budget.executor = executor
    results = experiment.run(configured(), specification, executor)
    steps = [(step.trial, step.iteration) for step in executor.evaluations()]
    assert steps == [*(("trial-1", step) for step in range(6)), ("trial-2", 0), ("trial-2", 1)]
    assert results["budget"]["missing"][0] == "the rest of SAFS, of whose 3 trials 2 had begun"
    assert results["rows"][-1]["evaluations"] == 6


def test_finalists_are_compared_by_the_seeds_that_all_have(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    out = [f"finalists/SAFS/{name}" for name in ("trial-1/seed-1", "trial-2/seed-0", "trial-2/seed-1")]
    executor, results = ran(configured("tune.trials=2"), dataset, specification, ready, Budget(left_out=out))
    assert set(results["finalists"]["SAFS"]) == {"default", "trial-1"}
    for name, known in results["finalists"]["SAFS"].items():
        only = executor.result(f"finalists/SAFS/{name}/seed-0").validation_accuracy
        assert known["validation_accuracy"]["values"] == [only]
    assert results["budget"]["missing"] == ["3 of 6 trainings of the finalists of SAFS"]


def test_without_a_training_of_the_default_recipe_it_wins(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    out = [f"finalists/SAFS/default/seed-{seed}" for seed in (0, 1)]
    executor, results = ran(configured("tune.trials=1"), dataset, specification, ready, Budget(left_out=out))
    assert executor.result("final/SAFS/fold-0") is executor.result("final/pruned/fold-0")
    assert results["finalists"] == {}


def test_of_pruners_whose_budget_ends_the_best_is_trained_in_all_epochs(
    dataset: Dataset, specification: Specification, dense: Result
) -> None:
    auto = configured("pruning.recipe=auto", "pruning.recipes=[gradual, erk, synflow]", "pruning.epochs=4")
    executor, results = ran(auto, dataset, specification, {"dense": dense}, Fixed(0))
    assert {name: known["epochs"] for name, known in results["pruners"].items()} == {"gradual": [4]}
    tried = executor.result("pruners/gradual/epochs-4")
    assert executor.result("pruned") is tried
    assert results["budget"]["missing"][:3] == [
        "3 of 3 pruners tried for 1 epoch",
        "2 of 2 pruners tried for 2 epochs",
        "the rest of SAFS, of whose 3 trials 0 had begun",
    ]
