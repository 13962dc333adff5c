from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.experiment import Outcome, Stage, finalist_epochs
from safs_ray.experiment.finalists import Default, finalists_of, standard_error, winner, winner_of
from safs_ray.experiment.results import Finalists, won_by_default
from safs_ray.search.course import Sweep, joint
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from tests.experiment.executors import FOUND, Searched
from tests.stages.altered import changed


def recipe(*assignment: str, rate: float = 5e-3) -> Recipe:
    return Recipe(assignment, Hyperparameters(learning_rate=rate, batch_size=32), learn_scales=True)


def test_finalists_are_the_best_and_each_recipe_is_one_of_them_once() -> None:
    default = recipe("elu")
    outcomes = [
        Outcome("trial-1", recipe("relu"), 0.5),
        Outcome("trial-4", recipe("tanh"), 0.7),
        Outcome("trial-5", recipe("tanh"), 0.7),
        Outcome("trial-7", recipe("relu", rate=1e-3), 0.5),
        Outcome("trial-8", recipe("srs"), 0.1),
    ]

    def names(most: int) -> list[str]:
        return [outcome.trial for outcome in finalists_of(outcomes, default, most)]

    assert names(3) == ["default", "trial-4", "trial-1", "trial-7"]
    assert names(1) == ["default", "trial-4"]
    assert names(9) == ["default", "trial-4", "trial-1", "trial-7", "trial-8"]
    default = recipe("tanh")
    assert names(2) == ["default", "trial-1", "trial-7"], "trials that found the default recipe are no others"


@pytest.mark.parametrize(
    ("accuracies", "examples", "won"),
    [
        ([[0.5, 0.5], [0.75, 0.75], [0.875, 0.875]], 100, 2),
        ([[0.0], [0.0]], 100, 0),
        ([[0.5], [0.53125]], 1000, 0),  # two standard errors of 1000 images are 0.0316
        ([[0.5], [0.53125]], 1050, 1),  # of 1050 they are 0.0308
        ([[0.5, 0.5], [0.5, 1.0]], 0, 0),  # better by 0.25, with a standard error of 0.25
        ([[0.5, 0.5], [0.625, 1.0]], 0, 0),  # better by 0.3125, with one of 0.1875
        ([[0.5, 0.5], [0.5, 1.0], [0.625, 0.6875]], 0, 2),  # the highest mean is not sure, the next is
        ([[0.5, 0.25], [0.75, 0.5]], 0, 1),  # each seed better by as much: no chance of batches
        ([[-300.0, -200.0], [100.0, 200.0]], 100, 1),  # scores of a loop of one's own
    ],
)
def test_winner_of_finalists_is_better_by_two_standard_errors_or_the_first(
    accuracies: list[list[float]], examples: int, won: int
) -> None:
    assert winner_of(accuracies, examples) == won


def test_standard_error_is_that_of_a_share_of_the_examples_and_of_paired_trainings() -> None:
    assert standard_error([0.9], [0.7], examples=100) == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
    assert standard_error([0.75, 0.5], [0.5, 0.5], examples=0) == pytest.approx(0.125)
    both = standard_error([0.75, 0.5], [0.5, 0.5], examples=36)
    assert both == pytest.approx(math.sqrt(0.125**2 + 0.5625 * 0.4375 / 36))


TRAININGS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=2)


@given(st.lists(TRAININGS, min_size=1, max_size=5), st.sampled_from([0, 1, 100, 10_000]))
def test_winner_of_finalists_is_never_below_the_first_and_better_where_it_is_another(
    accuracies: list[list[float]], examples: int
) -> None:
    """The first is the default recipe."""
    won = winner_of(accuracies, examples)
    assert mean(accuracies[won]) >= mean(accuracies[0])
    assert (won == 0) == (mean(accuracies[won]) == mean(accuracies[0]))


def test_finalist_epochs_are_those_of_all_trainings_and_of_the_default_recipe(configuration: Configuration) -> None:
    chosen = changed(configuration, "final", finalists=2, seeds=5, epochs=7)
    assert [finalist_epochs(chosen, trials) for trials in (1, 2, 3)] == [2 * 5 * 7, 3 * 5 * 7, 3 * 5 * 7]


@pytest.fixture
def executor(configuration: Configuration, dataset: Dataset, pruned: Result) -> Searched:
    return Searched(configuration, dataset, {"pruned": pruned}, FOUND)


@pytest.fixture
def default(configuration: Configuration) -> Default:
    return Default(Recipe(("relu", "relu"), configuration.pruning.hyperparameters, learn_scales=False), "pruned")


def test_winner_is_the_finalist_that_does_best_when_trained_again(
    configuration: Configuration, executor: Searched, default: Default, caplog: pytest.LogCaptureFixture
) -> None:
    """The best of the search is fragile: it diverges when it is trained again, and counts nothing."""
    caplog.set_level(logging.INFO, "safs_ray")
    finalists: Finalists = {}
    won = winner(configuration, joint(configuration), "pruned", None, default, executor, finalists)
    trials = ["default", "trial-2", "trial-3", "trial-1"]
    again = {trial: [executor.result(f"finalists/SAFS/{trial}/seed-{seed}") for seed in (0, 1)] for trial in trials}
    assert list(executor.stages) == [f"finalists/SAFS/{trial}/seed-{seed}" for seed in (0, 1) for trial in trials]
    assert all(stage.start == "pruned" and not stage.tests for stage in executor.stages.values())
    accuracies = {trial: [result.validation_accuracy for result in each] for trial, each in again.items()}
    assert accuracies["trial-2"] == [0, 0]
    examples = len(executor.folds.finalists().validation)
    best = trials[winner_of(list(accuracies.values()), examples)]
    recipes = {outcome.trial: outcome.recipe for outcome in FOUND} | {"default": default.recipe}
    assert won == recipes[best]
    assert {trial: known["validation_accuracy"]["values"] for trial, known in finalists["SAFS"].items()} == accuracies
    for trial, known in finalists["SAFS"].items():
        assert known["core_seconds"] == sum(result.core_seconds for result in again[trial])
        assert known["won"] == (trial == best)
    assert "SAFS: 3 finalists and the default recipe, each trained 2 times more" in caplog.messages
    assert won_by_default(finalists, Sweep.SAFS) == (best == "default")


class Trained(Searched):
    """One whose finalists have been trained: each gets the validation accuracy that is said of it."""

    accuracies: ClassVar[dict[str, tuple[float, float]]] = {}

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        for stage in stages:
            _, _, trial, seed = stage.name.split("/")
            accuracy = self.accuracies[trial][int(seed.removeprefix("seed-"))]
            self.keep(stage.name, replace(self.result("pruned"), validation_accuracy=accuracy))
        return super().run(stages)


@pytest.mark.parametrize(
    ("of_default", "of_trials", "who", "told"),
    [
        ((0.5, 0.25), (0.25, 0.25), "default",
         "SAFS: the search has found nothing surely better than the default recipe, with validation 37.5 %, "
         "the mean of 2 trainings"),
        ((0.5, 0.25), (0.25, 0.5), "default",
         "SAFS: the search has found nothing surely better than the default recipe, with validation 37.5 %, "
         "the mean of 2 trainings"),
        ((0.5, 0.25), (0.5625, 0.375), "default",
         "SAFS: the search has found nothing surely better than the default recipe, with validation 37.5 %, "
         "the mean of 2 trainings; 46.9 %, the highest, is within two standard errors"),
        ((0.5, 0.25), (1.0, 0.75), "trial-2",
         "SAFS: trial-2 wins with validation 87.5 %, the mean of 2 trainings (90.0 % in the search)"),
    ],
)  # fmt: skip
def test_winner_is_the_default_recipe_unless_a_trial_is_surely_better(
    configuration: Configuration,
    dataset: Dataset,
    pruned: Result,
    default: Default,
    caplog: pytest.LogCaptureFixture,
    of_default: tuple[float, float],
    of_trials: tuple[float, float],
    who: str,
    told: str,
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    executor = Trained(configuration, dataset, {"pruned": pruned}, FOUND)
    executor.accuracies = {"default": of_default, **dict.fromkeys(("trial-1", "trial-2", "trial-3"), of_trials)}
    finalists: Finalists = {}
    won = winner(configuration, joint(configuration), "pruned", None, default, executor, finalists)
    assert won == {"default": default.recipe, "trial-2": FOUND[1].recipe}[who]
    assert won_by_default(finalists, Sweep.SAFS) == (who == "default")
    assert caplog.messages[-1] == told


def test_winner_validates_finalists_on_the_images_that_all_folds_hold_out(
    configuration: Configuration, executor: Searched, default: Default
) -> None:
    winner(configuration, joint(configuration), "pruned", None, default, executor, {})
    for stage in executor.stages.values():
        seen, search = stage.images(executor.folds), executor.folds.search()
        assert torch.equal(seen.train.inputs, search.train.inputs)
        assert len(seen.validation) == configuration.final.folds * len(search.validation)


def test_winner_trains_the_default_recipe_from_its_own_start(
    configuration: Configuration, dataset: Dataset, pruned: Result, default: Default
) -> None:
    executor = Searched(configuration, dataset, {"pruned": pruned, "pruned-found": pruned}, FOUND)
    winner(configuration, joint(configuration), "pruned-found", None, default, executor, {})
    starts = {name.split("/")[2]: stage.start for name, stage in executor.stages.items()}
    assert starts == {"default": "pruned", **dict.fromkeys(("trial-1", "trial-2", "trial-3"), "pruned-found")}


def test_winner_forgets_trainings_of_what_is_no_finalist_any_more(
    configuration: Configuration, executor: Searched, default: Default
) -> None:
    winner(configuration, joint(configuration), "pruned", None, default, executor, {})
    assert executor.discarded == [("finalists/SAFS", ["default", "trial-2", "trial-3", "trial-1"])]


def test_winner_gives_the_sweep_the_assignment_of_a_recipe(
    configuration: Configuration, executor: Searched, default: Default
) -> None:
    one = changed(configuration, "final", finalists=1)
    winner(one, joint(one), "pruned", recipe("tanh", "srs"), default, executor, {})
    assert executor.sweeps == {"SAFS": ("pruned", ("tanh", "srs"))}
