"""The dense network that an experiment begins with: trained, untrained, or given."""

from __future__ import annotations

from safs_ray import models
from safs_ray.config import refusal
from safs_ray.models import Specification
from safs_ray.models.weights import Weights
from safs_ray.network import Network, load_state
from safs_ray.randomness import derive
from safs_ray.stages.result import Result, trained, untrained
from safs_ray.training import Context, Training


def train_dense(specification: Specification, context: Context) -> Result:
    """Train a network from initial weights, with its own activations.

    Without epochs it stays as it is, for the pruners that were published for initial weights: SNIP, GraSP, SynFlow.

    Raises:
        ConfigurationError: the training diverged.
    """
    network = Network.initial(specification, derive(context.seed, "dense"))
    if not context.configuration.dense.epochs:
        return untrained(network, context)
    return trained(network, dense_training(context), blamed="dense.hyperparameters.learning_rate")


def dense_training(context: Context) -> Training:
    """The training of the dense network."""
    section = context.configuration.dense
    return Training(context, section.hyperparameters, section.epochs, derive(context.seed, "dense"))


def from_file(specification: Specification, context: Context) -> Result | None:
    """What ``model.weights`` holds, in place of what training, or training and pruning, would make; None without it.

    Raises:
        ConfigurationError: the file cannot be read or its weights are not the network's.
    """
    section = context.configuration.model
    if section.weights is None:
        return None
    module = models.build(specification, seed=0)
    weights = Weights.read(section.weights, module)
    load_state(module, weights.state)
    network = Network.of(specification, module)
    if section.pruned:
        network = network.masked(weights.masks_of(network.prunable()))
    elif weights.masks:
        raise refusal("model.weights", weights.file, "is a pruned network; model.pruned=true keeps it so")
    return untrained(network, context)
