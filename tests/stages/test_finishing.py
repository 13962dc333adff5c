from __future__ import annotations

import pytest
import torch

from safs_ray import stages
from safs_ray.accuracy import accuracy
from safs_ray.config import Configuration, RunSection
from safs_ray.data import Dataset
from safs_ray.stages import Recipe, Result
from tests.stages.altered import WILD


def test_the_test_images_are_read_at_the_end(
    configuration: Configuration, dataset: Dataset, pruned: Result, device: torch.device
) -> None:
    splits = stages.folds(configuration, dataset).final(1)
    recipe = Recipe(("tanh", "relu"), configuration.pruning.hyperparameters, learn_scales=False)
    result = stages.finish(pruned.network, recipe, configuration, splits, 1, device)
    assert result.network.assignment == ("tanh", "relu")
    assert result.test_accuracy is not None
    assert result.test_accuracy * len(splits.test) == pytest.approx(round(result.test_accuracy * len(splits.test)))


def test_a_row_that_diverges_at_once_is_the_network_as_it_was(
    configuration: Configuration, dataset: Dataset, pruned: Result, device: torch.device
) -> None:
    splits = stages.folds(configuration, dataset).final(0)
    recipe = Recipe(("symexp", "symexp"), WILD, learn_scales=True)
    network = pruned.network.assign(recipe.assignment)
    result = stages.finish(pruned.network, recipe, configuration, splits, 0, device)
    assert result.network.fingerprint == network.fingerprint
    assert result.validation_accuracy == accuracy(network, splits.validation, device, RunSection())
    assert result.test_accuracy == accuracy(network, splits.test, device, RunSection())
