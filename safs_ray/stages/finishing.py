"""The last training of every row of the table, and the test images."""

from __future__ import annotations

from dataclasses import replace

import torch

from safs_ray.accuracy import accuracy
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, RunSection
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.rules import rule_of
from safs_ray.randomness import derive
from safs_ray.stages.preparing import searchable
from safs_ray.stages.recipe import Recipe
from safs_ray.stages.result import Result, trained
from safs_ray.training import Report, Training, silent


def finish(
    network: Network,
    recipe: Recipe,
    configuration: Configuration,
    splits: Splits,
    fold: int,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """The last training of a row of the table, the same length for every row; then the test images, once.

    A training that diverges before its first epoch is over leaves the network as it was: that is the row's result.

    Args:
        network: the pruned network, or the dense one that ``search.when`` during prunes here.
        recipe: of the row.
        fold: number of the fold that the splits are of, from which the seed follows.
    """
    seed = derive(configuration.run.seed, "final", fold)
    start = searchable(network, configuration).assign(recipe.assignment)
    training = last_training(recipe, configuration, splits, seed, device, checkpoints)
    # A network that masks were to grow in is no sparse network without that training.
    blamed = "pruning.hyperparameters.learning_rate" if configuration.search.when == "during" else None
    last = trained(start, training, report, blamed)
    return test(last, splits, device, configuration.run)


def last_training(
    recipe: Recipe,
    configuration: Configuration,
    splits: Splits,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None,
) -> Training:
    """The training of a row of the table, and of a finalist, by its recipe."""
    return Training(
        splits,
        recipe.hyperparameters,
        configuration.final.epochs,
        seed,
        device,
        configuration.data,
        configuration.run,
        recipe.learn_scales,
        rule_of(configuration),
        checkpoints,
    )


def test(result: Result, splits: Splits, device: torch.device, run: RunSection) -> Result:
    """The result with its accuracy on the test images."""
    return replace(result, test_accuracy=accuracy(result.network, splits.test, device, run))
