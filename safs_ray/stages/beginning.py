"""The dense network that a run begins with: trained, untrained, or given."""

from __future__ import annotations

from dataclasses import replace

import torch

from safs_ray import models
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, refusal
from safs_ray.data import Dataset, Splits
from safs_ray.models import Specification
from safs_ray.models.weights import Weights
from safs_ray.network import Network, load_state
from safs_ray.randomness import derive
from safs_ray.stages.preparing import specify
from safs_ray.stages.result import Result, trained, untrained
from safs_ray.training import Report, Training, silent


def train_dense(
    configuration: Configuration,
    dataset: Dataset,
    splits: Splits,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Train a network from initial weights, with its own activations.

    Without epochs it stays as it is, for the pruners that were published for initial weights: SNIP, GraSP, SynFlow.

    Raises:
        ConfigurationError: the training diverged.
    """
    network = Network.initial(specify(configuration, dataset, splits), derive(configuration.run.seed, "dense"))
    if not configuration.dense.epochs:
        return untrained(network, configuration, splits, device)
    training = replace(dense_training(configuration, splits, device), checkpoints=checkpoints)
    return trained(network, training, report, blamed="dense.hyperparameters.learning_rate")


def dense_training(configuration: Configuration, splits: Splits, device: torch.device) -> Training:
    section, seed = configuration.dense, derive(configuration.run.seed, "dense")
    return Training(
        splits, section.hyperparameters, section.epochs, seed, device, configuration.data, configuration.run
    )


def given(configuration: Configuration, specification: Specification, splits: Splits) -> Result | None:
    """What ``model.weights`` holds, in place of what training, or training and pruning, would make; None without it.

    Raises:
        ConfigurationError: the file cannot be read or its weights are not the network's.
    """
    if configuration.model.weights is None:
        return None
    module = models.build(specification, seed=0)
    weights = Weights.read(configuration.model.weights, module)
    load_state(module, weights.state)
    network = Network.of(specification, module)
    if configuration.model.pruned:
        network = network.masked(weights.masks_of(network.prunable()))
    elif weights.masks:
        raise refusal("model.weights", weights.file, "is a pruned network; model.pruned=true keeps it so")
    return untrained(network, configuration, splits, torch.device("cpu"))
