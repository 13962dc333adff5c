"""The last training of every row of the table, and the test images."""

from __future__ import annotations

from dataclasses import replace

import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters, RunSection
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.rules import rule_of
from safs_ray.randomness import derive
from safs_ray.stages.result import Result, trained
from safs_ray.training import Report, Training, accuracy, silent


def finish(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    fold: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """The last training of a row of the table, the same length for every row; then the test images, once.

    A training that diverges before its first epoch is over leaves the network as it was: that is the row's result.

    Args:
        network: the pruned network, or the dense one that ``search.when`` during prunes here, with the row's
            assignment.
        fold: number of the fold that the splits are of, from which the seed follows.
        learn_scales: whether alpha and beta are learned, or stay at 1.
    """
    seed = derive(configuration.run.seed, "final", fold)
    training = last_training(configuration, splits, seed, hyperparameters, learn_scales, device, checkpoints)
    # A network that masks were to grow in is no sparse network without that training.
    blamed = "pruning.hyperparameters.learning_rate" if configuration.search.when == "during" else None
    last = trained(network, training, report, blamed)
    return test(last, splits, device, configuration.run)


def last_training(
    configuration: Configuration,
    splits: Splits,
    seed: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    checkpoints: Checkpoints | None,
) -> Training:
    return Training(
        splits,
        hyperparameters,
        configuration.final.epochs,
        seed,
        device,
        configuration.data,
        configuration.run,
        learn_scales,
        rule_of(configuration),
        checkpoints,
    )


def test(result: Result, splits: Splits, device: torch.device, run: RunSection) -> Result:
    """The result with its accuracy on the test images."""
    return replace(result, test_accuracy=accuracy(result.network, splits.test, device, run))
