from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

import torch

from safs_ray import stages
from safs_ray.accuracy import accuracy
from safs_ray.config import Configuration, Hyperparameters, RunSection
from safs_ray.data import Dataset, Splits
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.stages import Found, Recipe, Result
from safs_ray.stages.finishing import last_training
from safs_ray.training import Trainer
from tests.stages.altered import WILD, changed


def test_search_never_ends_below_its_start(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    found = stages.search(pruned.network, configuration, splits, configuration.pruning.hyperparameters, device)
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    best = max(searched, key=lambda evaluation: evaluation.validation_accuracy)
    assert best.validation_accuracy >= searched[0].validation_accuracy
    assert found.assignment == best.assignment
    assert len(found.evaluations) == configuration.iterations


def test_groups_of_channels_have_operators_and_scales_of_their_own(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    grouped = changed(configuration, "search", granularity="group", groups=3)
    found = stages.search(pruned.network, grouped, splits, configuration.pruning.hyperparameters, device)
    assert found.network.sites == ("act1.0", "act1.1", "act1.2", "act2.0", "act2.1", "act2.2")
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    assert searched[0].assignment == ("relu",) * 6
    assert any(len(set(evaluation.assignment)) > 1 for evaluation in searched)
    assert len({activation["alpha"] for activation in found.network.activations().values()}) > 1
    assert found.network.nonzero_weights == pruned.network.nonzero_weights


def recipe(*assignment: str, rate: float = 5e-3) -> Recipe:
    return Recipe(assignment, Hyperparameters(learning_rate=rate, batch_size=32), learn_scales=True)


def test_finalists_are_the_best_and_each_recipe_is_one_of_them_once(configuration: Configuration) -> None:
    recipes = {0: recipe("relu"), 3: recipe("tanh"), 4: recipe("tanh"), 6: recipe("relu", rate=1e-3), 7: recipe("srs")}
    accuracies = {0: 0.5, 3: 0.7, 4: 0.7, 6: 0.5, 7: 0.1}
    assert stages.finalists_of(configuration, recipes, accuracies) == [3, 0, 6]
    assert stages.finalists_of(changed(configuration, "final", finalists=1), recipes, accuracies) == [3]
    assert stages.finalists_of(changed(configuration, "final", finalists=9), recipes, accuracies) == [3, 0, 6, 7]


def test_the_winner_has_the_highest_mean() -> None:
    assert stages.winner_of({5: [0.75, 0.0], 2: [0.5, 0.25], 1: [0.5, 0.375]}) == (1, 0.4375)
    assert stages.winner_of({5: [0.0], 2: [0.0]}) == (5, 0.0), "of equal ones that which the search ranked higher"


def finalist(configuration: Configuration, network: Network, recipe: Recipe, splits: Splits, number: int) -> Result:
    return stages.train_finalist(network, recipe, configuration, splits, number, torch.device("cpu"))


def test_a_finalist_is_trained_as_in_the_end_but_with_other_batches_and_images(
    configuration: Configuration, dataset: Dataset, pruned: Result, splits: Splits, device: torch.device
) -> None:
    recipe = Recipe(("relu", "srs"), configuration.pruning.hyperparameters, learn_scales=True)
    first, again, other = (finalist(configuration, pruned.network, recipe, splits, number) for number in (0, 0, 1))
    assert first.network.fingerprint == again.network.fingerprint != other.network.fingerprint
    assert first.test_accuracy is None
    assert first.validation_accuracy == accuracy(first.network, splits.validation, device, RunSection())
    seen = stages.folds(configuration, dataset).search()
    seed = derive(0, "finalist", 0)
    last = last_training(recipe, configuration, seen, seed, device, None)
    start = pruned.network.assign(recipe.assignment)
    assert Trainer(start, last).run().best().fingerprint == first.network.fingerprint
    unscaled = finalist(configuration, pruned.network, replace(recipe, learn_scales=False), splits, 0)
    assert {each["alpha"] for each in unscaled.network.activations().values()} == {1.0}


def test_a_lucky_winner_that_is_fragile_is_replaced(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    """The first has the highest accuracy of the search, and diverges when it is trained again."""
    chosen = configuration.pruning.hyperparameters
    lucky = Recipe(("symexp", "symexp"), WILD, learn_scales=True)
    solid = Recipe(("relu", "tanh"), chosen, learn_scales=True)
    assert finalist(configuration, pruned.network, lucky, splits, 0) == replace(
        pruned, network=pruned.network.assign(lucky.assignment), validation_accuracy=0.0, core_seconds=ANY
    )
    found = [
        Found(pruned.network.assign(each.assignment), each, reached, ())
        for each, reached in ((lucky, 0.9), (solid, 0.4), (replace(solid, assignment=("relu", "relu")), 0.1))
    ]
    two = changed(configuration, "final", finalists=2)
    assert stages.choose(found, pruned.network, two, splits, device) is found[1]
    one = changed(configuration, "final", finalists=1)
    assert stages.choose(found, pruned.network, one, splits, device) is found[0]
    assert stages.choose(found[:1], pruned.network, configuration, splits, device) is found[0]
