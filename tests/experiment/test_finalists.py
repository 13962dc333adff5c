from __future__ import annotations

import logging
from statistics import mean

import pytest

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.experiment import Outcome, finalist_epochs
from safs_ray.experiment.finalists import finalists_of, winner, winner_of
from safs_ray.experiment.results import Finalists
from safs_ray.search.course import joint
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from tests.experiment.executors import FOUND, Searched
from tests.stages.altered import changed


def recipe(*assignment: str, rate: float = 5e-3) -> Recipe:
    return Recipe(assignment, Hyperparameters(learning_rate=rate, batch_size=32), learn_scales=True)


def test_finalists_are_the_best_and_each_recipe_is_one_of_them_once() -> None:
    outcomes = [
        Outcome("trial-1", recipe("relu"), 0.5),
        Outcome("trial-4", recipe("tanh"), 0.7),
        Outcome("trial-5", recipe("tanh"), 0.7),
        Outcome("trial-7", recipe("relu", rate=1e-3), 0.5),
        Outcome("trial-8", recipe("srs"), 0.1),
    ]

    def names(most: int) -> list[str]:
        return [outcome.trial for outcome in finalists_of(outcomes, most)]

    assert names(3) == ["trial-4", "trial-1", "trial-7"]
    assert names(1) == ["trial-4"]
    assert names(9) == ["trial-4", "trial-1", "trial-7", "trial-8"]


def test_winner_of_finalists_has_the_highest_mean() -> None:
    five, two, one = FOUND[:3]
    assert winner_of([five, two, one], [[0.75, 0.0], [0.5, 0.25], [0.5, 0.375]]) == (one, 0.4375)
    assert winner_of([five, two], [[0.0], [0.0]]) == (five, 0.0), "of equal ones that which the search ranked higher"


def test_finalist_epochs_are_those_of_all_trainings_and_one_alone_has_won(configuration: Configuration) -> None:
    chosen = changed(configuration, "final", seeds=5, epochs=7)
    assert [finalist_epochs(chosen, count) for count in (0, 1, 2, 3)] == [0, 0, 2 * 5 * 7, 3 * 5 * 7]


@pytest.fixture
def executor(configuration: Configuration, dataset: Dataset, pruned: Result) -> Searched:
    return Searched(configuration, dataset, {"pruned": pruned}, FOUND)


def test_winner_is_the_finalist_that_does_best_when_trained_again(
    configuration: Configuration, executor: Searched, caplog: pytest.LogCaptureFixture
) -> None:
    """The best of the search is fragile: it diverges when it is trained again, and counts nothing."""
    caplog.set_level(logging.INFO, "safs_ray")
    finalists: Finalists = {}
    won = winner(configuration, joint(configuration), "pruned", None, executor, finalists)
    again = {
        f"trial-{trial}": [executor.result(f"finalists/SAFS/trial-{trial}/seed-{seed}") for seed in (0, 1)]
        for trial in (2, 3, 1)
    }
    names = [f"finalists/SAFS/trial-{trial}/seed-{seed}" for seed in (0, 1) for trial in (2, 3, 1)]
    assert list(executor.stages) == names
    assert all(stage.start == "pruned" and not stage.tests for stage in executor.stages.values())
    accuracies = {trial: [result.validation_accuracy for result in each] for trial, each in again.items()}
    assert accuracies["trial-2"] == [0, 0]
    means = {trial: mean(values) for trial, values in accuracies.items()}
    best = max(means, key=means.__getitem__)
    assert won == next(outcome.recipe for outcome in FOUND if outcome.trial == best)
    assert best != "trial-2"
    assert {trial: known["validation_accuracy"]["values"] for trial, known in finalists["SAFS"].items()} == accuracies
    for trial, known in finalists["SAFS"].items():
        assert known["core_seconds"] == sum(result.core_seconds for result in again[trial])
    searched = next(outcome.accuracy for outcome in FOUND if outcome.trial == best)
    assert "SAFS: 3 finalists, each trained 2 times more" in caplog.messages
    told = f"SAFS: {best} wins with validation {100 * means[best]:5.1f} %, the mean of 2 trainings"
    assert caplog.messages[-1] == f"{told} ({100 * searched:.1f} % in the search)"


def test_winner_forgets_trainings_of_what_is_no_finalist_any_more(
    configuration: Configuration, executor: Searched
) -> None:
    winner(configuration, joint(configuration), "pruned", None, executor, {})
    assert executor.discarded == [("finalists/SAFS", ["trial-2", "trial-3", "trial-1"])]


def test_winner_is_the_best_trial_as_it_is_where_it_is_the_only_finalist(
    configuration: Configuration, dataset: Dataset, pruned: Result, executor: Searched
) -> None:
    one, course, finalists = changed(configuration, "final", finalists=1), joint(configuration), Finalists()
    assert winner(one, course, "pruned", None, executor, finalists) == FOUND[1].recipe
    last = Searched(configuration, dataset, {"pruned": pruned}, FOUND[3:])
    assert winner(configuration, course, "pruned", None, last, finalists) == FOUND[3].recipe
    assert (executor.stages, last.stages, finalists) == ({}, {}, {}), "nobody is trained again"


def test_winner_gives_the_sweep_the_assignment_of_a_recipe(configuration: Configuration, executor: Searched) -> None:
    one = changed(configuration, "final", finalists=1)
    winner(one, joint(one), "pruned", recipe("tanh", "srs"), executor, {})
    assert executor.sweeps == {"SAFS": ("pruned", ("tanh", "srs"))}
