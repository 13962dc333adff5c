"""What the stages will do with a user's own network, tried on a few images before any of it is done."""

from __future__ import annotations

import logging
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from safs_ray import schedules
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, ConfigurationError, refusal
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.masks import unprunable_weights
from safs_ray.pruning.scores import find_score
from safs_ray.pruning.structure import select
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable, why_dense
from safs_ray.storage import Folder
from safs_ray.training import Context, Training, TrainingResult, measure, train

IMAGES = 8
"""How many images are looked at."""

TOLERANCE = 1e-3
"""Difference of logits that rounding may make, as a fraction of the largest logit."""

CPU = torch.device("cpu")

log = logging.getLogger("safs_ray")


def rehearse(network: Network, configuration: Configuration, splits: Splits) -> None:
    """Prune a network, look at what is left, and compare how it is executed with all weights and without zeros.

    Says what of it is no site, what is never pruned, and why it is not traced.

    Raises:
        ConfigurationError: it fails in one of them, or is executed in two ways that differ.
    """
    _tell(network)
    try:
        few = replace(splits, train=splits.train[:IMAGES], validation=splits.validation[:IMAGES])
        pruned = _pruned(network, configuration.for_few_examples, few)
        _compare(pruned, configuration, few.train.inputs)
        if pruned.survey.reached is None:
            log.warning("model.name=%s: %s", network.specification.model, pruned.survey.reach)
    except ConfigurationError:
        raise
    except Exception as error:  # the user's network runs, and may raise anything
        reason = f"fails when it is pruned or executed ({type(error).__name__}: {error})"
        raise refusal("model.name", network.specification.model, reason) from None


def rehearse_loop(network: Network, configuration: Configuration, splits: Splits, device: torch.device) -> None:
    """Train a sparse network by the user's loop for an epoch, twice, and score it.

    Says by how much two trainings of the same seed differ, whether the network that is left has another score, and
    where the test seems to be no other than the validation.

    Raises:
        ConfigurationError: the loop fails or breaks a promise.
    """
    name = configuration.task.loop
    seen = replace(splits, test=splits.train[: len(splits.validation)])
    pruned, context = _pruned(network, configuration, splits), Context(configuration, seen, device)
    try:
        one, other = (_rehearsed(pruned, context) for _ in range(2))
        left, tested = (measure(one.network, context, test) for test in (False, True))
    except ConfigurationError:
        raise
    except Exception as error:  # the user's loop runs, and may raise anything
        raise refusal("task.loop", name, f"fails ({type(error).__name__}: {error})") from None
    if one.network.fingerprint == pruned.fingerprint and one.accuracy != left:
        raise refusal("task.loop", name, "leaves the module as it came; train the module that is given, not a copy")
    if one.network.fingerprint == pruned.fingerprint:
        log.warning("task.loop=%s: leaves the module as it came after its first epoch", name)
    if one.accuracy != other.accuracy:
        noise = f"two trainings with the same seed score {one.accuracy:.6g} and {other.accuracy:.6g}"
        log.warning("task.loop=%s: %s: what differs by less is noise, and no run can be repeated", name, noise)
    elif one.network.fingerprint != other.network.fingerprint:
        log.warning("task.loop=%s: two trainings with the same seed leave other weights: no run can be repeated", name)
    elif one.accuracy != left:
        scores = f"scores {one.accuracy:.6g}, and the network that it leaves {left:.6g}"
        log.warning("task.loop=%s: %s: load the weights that you score into the module", name, scores)
    if left == tested:
        log.warning("task.loop=%s: scores the same for validation and for the test; see context.test", name)


def _rehearsed(pruned: Network, context: Context) -> TrainingResult:
    """A network after an epoch of the user's loop, whose state is written at every report."""
    with TemporaryDirectory() as folder:
        kept = replace(context, checkpoints=Checkpoints(Folder.at(folder), seconds=0))
        training = Training(kept, context.configuration.pruning.hyperparameters, epochs=1, seed=context.seed)
        return train(pruned, training, "the default hyperparameters")


def _tell(network: Network) -> None:
    """What a user would not expect of their network."""
    sited, name = network.sited, network.specification.model
    if sited.untraced:
        log.warning("model.name=%s: runs its own code, with all weights: torch.fx: %s", name, sited.untraced)
    if sited.left:
        log.warning("model.name=%s: stay as they are: %s", name, ", ".join(sited.left))
    if others := unprunable_weights(sited.module):
        count, prunable = sum(weight.numel() for weight in others.values()), network.prunable_count
        log.warning(
            "model.name=%s: %s of %s weights are in tensors that are never pruned: %s",
            *(name, f"{count:,}", f"{count + prunable:,}", ", ".join(others)),
        )


def _pruned(network: Network, configuration: Configuration, splits: Splits) -> Network:
    """The network as its score and allocation leave it, in one round."""
    section = configuration.pruning
    training = Training(Context(configuration, splits), section.hyperparameters, epochs=0, seed=0)
    evidence = schedules.evidence(network, section, training)
    masks = select(find_score(section.score)(evidence), section.sparsity, section, network.masks, network)
    return network.masked({name: mask.cpu() for name, mask in masks.items()})


def _compare(network: Network, configuration: Configuration, images: Tensor) -> None:
    """Refuse a network whose sparse execution gives other logits than the masked dense network's.

    Raises:
        ConfigurationError: naming the difference.
    """
    run = configuration.run
    sparse = executable(network, run.execution, CPU, run.known_costs).cohort
    if type(sparse) is DenseCohort:
        if run.execution == "auto" and not network.sited.untraced and (reason := why_dense(network)):
            log.warning("model.name=%s: runs with all weights, zeros included: %s", network.specification.model, reason)
        return
    if run.device == "cuda":
        return
    dense = executable(network, "dense", CPU).cohort
    for training in (True, False):
        expected, given = (_logits(each, training, images) for each in (dense, sparse))
        difference, largest = (expected - given).abs().max().item(), expected.abs().max().item()
        if not difference <= TOLERANCE * largest:
            reason = f"gives logits that differ by {difference:.2g} from the dense network's, the largest of which is"
            raise refusal("run.execution", run.execution, f"{reason} {largest:.2g}; allowed for this network: dense")


@torch.no_grad()
def _logits(cohort: Cohort, training: bool, images: Tensor) -> Tensor:
    logits: Tensor = cohort.train(training)(images)
    return logits
