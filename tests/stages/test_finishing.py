from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch

from safs_ray import stages
from safs_ray.accuracy import accuracy
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.randomness import derive
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.stages.finishing import _last_training
from safs_ray.training import Context, Trainer
from tests.stages.altered import WILD


def test_the_test_images_are_read_at_the_end(configuration: Configuration, dataset: Dataset, pruned: Result) -> None:
    splits = stages.folds(configuration, dataset).final(1)
    recipe = Recipe(("tanh", "relu"), configuration.pruning.hyperparameters, learn_scales=False)
    result = stages.finish(pruned.network, Context(configuration, splits), recipe, 1)
    assert result.network.assignment == ("tanh", "relu")
    assert result.test_accuracy is not None
    assert result.test_accuracy * len(splits.test) == pytest.approx(round(result.test_accuracy * len(splits.test)))


def test_a_row_that_diverges_at_once_is_the_network_as_it_was(
    configuration: Configuration, dataset: Dataset, pruned: Result, device: torch.device
) -> None:
    splits = stages.folds(configuration, dataset).final(0)
    recipe = Recipe(("symexp", "symexp"), WILD, learn_scales=True)
    network = pruned.network.assign(recipe.assignment)
    result = stages.finish(pruned.network, Context(configuration, splits), recipe, 0)
    assert result.network.fingerprint == network.fingerprint
    assert result.validation_accuracy == accuracy(network, splits.validation, device, Configuration())
    assert result.test_accuracy == accuracy(network, splits.test, device, Configuration())


def test_a_finalist_is_trained_as_in_the_end_but_with_other_batches_and_images(
    configuration: Configuration, dataset: Dataset, pruned: Result, context: Context, device: torch.device
) -> None:
    recipe = Recipe(("relu", "srs"), configuration.pruning.hyperparameters, learn_scales=True)
    first, again, other = (stages.train_finalist(pruned.network, context, recipe, number) for number in (0, 0, 1))
    assert first.network.fingerprint == again.network.fingerprint != other.network.fingerprint
    assert first.test_accuracy is None
    assert first.validation_accuracy == accuracy(first.network, context.splits.validation, device, Configuration())
    seen = Context(configuration, stages.folds(configuration, dataset).search())
    last = _last_training(pruned.network, recipe, seen, derive(0, "finalist", 0))
    start = pruned.network.assign(recipe.assignment)
    assert Trainer([start], last).run().standing.best.fingerprint == first.network.fingerprint
    unscaled = stages.train_finalist(pruned.network, context, replace(recipe, learn_scales=False), 0)
    assert {each["alpha"] for each in unscaled.network.activations().values()} == {1.0}


def test_a_finalist_that_diverges_scores_nothing(pruned: Result, context: Context) -> None:
    wild = Recipe(("symexp", "symexp"), WILD, learn_scales=True)
    assert stages.train_finalist(pruned.network, context, wild, 0) == replace(
        pruned, network=pruned.network.assign(wild.assignment), validation_accuracy=0.0, core_seconds=ANY
    )
