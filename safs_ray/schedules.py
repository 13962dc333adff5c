"""Pruning schedules: when weights become zero, and what is trained in between.

The functions take a dense network and a training with its seed, and return a sparse network and its validation
accuracy. Those that change masks within one training hand a rule to it; the others are rounds of trainings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from safs_ray import pruning
from safs_ray.accuracy import accuracy
from safs_ray.config import Configuration, PruningSection
from safs_ray.losses import CROSS_ENTROPY
from safs_ray.network import Network
from safs_ray.pruning.changing import RULES, GradualMasks
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.pruning.scores import Evidence
from safs_ray.randomness import derive
from safs_ray.references import resolve
from safs_ray.training import Mean, Trainer, Training, TrainingResult, digest, diverging, train
from safs_ray.training.goal import loss_of

BLAMED = "pruning.hyperparameters.learning_rate"

AVERAGED = 0.25
"""The last part of a training over whose epochs its weights are averaged (SWA, Izmailov et al. 2018)."""


@dataclass(frozen=True)
class Task:
    """What a schedule is given.

    Attributes:
        network: dense, or with the masks that it begins with.
        training: one of ``section.epochs``.
        rewound: the network whose weights each round begins from; None for those just trained.
    """

    network: Network
    section: PruningSection
    training: Training
    rewound: Network | None = None


def follow(task: Task) -> TrainingResult:
    """Make a network sparse by the section's schedule.

    Raises:
        ConfigurationError: a training diverged.
    """
    schedule = SCHEDULES.get(task.section.schedule) or resolve(task.section.schedule, "pruning.schedule")
    return schedule(task)


def epochs(section: PruningSection) -> int:
    """How many epochs a schedule trains in all.

    Examples:
        >>> epochs(PruningSection(sparsity=0.75, schedule="iterative", fraction=0.5, epochs=3))  # to 0.5, then to 0.75
        6
    """
    return section.trainings * shared(section).epochs


def shared(section: PruningSection) -> PruningSection:
    """The section with the epochs of a recipe, which are those in all, shared among its trainings.

    Examples:
        >>> shared(PruningSection(sparsity=0.99, recipe="swamp", epochs=20)).epochs  # 6 rounds of 2 particles
        1
    """
    if section.recipe is None:
        return section
    epochs = max(1, section.epochs // section.trainings) if section.epochs else 0
    return section.model_copy(update={"epochs": epochs, "recipe": None, "hyperparameters": section.while_pruning})


MOMENTS = 100
"""At how many moments of a training it is asked how sparse the network is."""


def left(section: PruningSection) -> list[float]:
    """The part of the weights that is computed with, at equal moments of all that a schedule trains.

    Examples:
        >>> each = left(PruningSection(sparsity=0.99, schedule="gradual", until=0.5))
        >>> [round(part, 3) for part in (each[0], each[25], each[49], each[50], each[99])]
        [0.971, 0.126, 0.01, 0.01, 0.01]
        >>> left(PruningSection(sparsity=0.75, schedule="iterative", fraction=0.5))
        [0.5, 0.25]
    """
    end = 1 - section.sparsity
    before = round(section.until * MOMENTS)
    match section.schedule:
        case "gradual":
            pruning = [end + section.sparsity * (1 - (moment + 0.5) / before) ** 3 for moment in range(before)]
        case "gsm" | "envelope" | "turbo-vbi":
            pruning = [1.0] * before
        case "rigl":  # with all weights it asks which are to grow
            return [1.0] + [end] * (section.interval - 1)
        case "one shot" | "iterative" | "swamp":
            return [1 - sparsity for sparsity in section.sparsities]
        case _:  # a user's own
            return [1.0]
    return pruning + [end] * (MOMENTS - before)


def rule_of(configuration: Configuration, network: Network) -> MakeRule:
    """The rule of every training of a sparse network: fixed masks, or masks that grow anew in each of them."""
    if configuration.search.when == "during":
        return partial(GradualMasks, section=configuration.pruning, network=network)
    return FixedMasks


def prune_once(network: Network, section: PruningSection, training: Training) -> Network:
    """The network with its lowest weights set to zero."""
    masks = pruning.find_masks(evidence(network, section, training), section, network.masks, network)
    return network.masked({name: mask.cpu() for name, mask in masks.items()})


def evidence(network: Network, section: PruningSection, training: Training) -> Evidence:
    """What scores look at: the network, and the first training images as the network sees them.

    A network that has seen no batch has no statistics to normalise by, so it is scored by those of the images.
    """
    device = training.context.device
    few = training.context.splits.train[: section.images].to(device)
    module = network.build().to(device).train(network.lacks_statistics)
    images = network.specification.normalised(few.inputs)
    labels = network.specification.standardised(few.labels)
    loss = loss_of(training.context.configuration.data, training.context.splits.train, CROSS_ENTROPY)
    return Evidence(module, images, labels, derive(training.seed, "scores"), network.sites, loss)


def one_shot(task: Task) -> TrainingResult:
    """All at once, then training with the masks."""
    return train(prune_once(task.network, task.section, task.training), task.training, BLAMED)


def in_training(task: Task) -> TrainingResult:
    """While the network trains: little by little, by its gradients (GSM), by a penalty (WGSEF), or by a posterior
    (Turbo-VBI)."""
    rule = partial(RULES[task.section.schedule], section=task.section, network=task.network)
    return train(task.network, replace(task.training, mask_rule=rule), BLAMED)


def rigl(task: Task) -> TrainingResult:
    """All at once, then training that moves the masks (Evci et al. 2020)."""
    return in_training(replace(task, network=prune_once(task.network, task.section, task.training)))


def iterative(task: Task) -> TrainingResult:
    """Prune a part of what is left, rewind, train, and again.

    With the weights rewound this is iterative magnitude pruning (IMP, Frankle & Carbin 2019), without it
    learning-rate rewinding (LRR, Renda et al. 2020).
    """
    network, score, before = task.network, 0.0, 0.0
    for index, sparsity in enumerate(task.section.sparsities):
        context = task.training.context.after(index * task.section.epochs)
        training = replace(task.training, seed=derive(task.training.seed, "round", index), context=context)
        network, score, own = train(_ticket(network, sparsity, task), training, BLAMED)
        before += own
    return TrainingResult(network, score, before)


def swamp(task: Task) -> TrainingResult:
    """Iterative pruning of the mean of several particles (SWAMP, Choi et al. 2024).

    The particles of a round are trained from the same weights on batches of different order, and averaged over
    the last quarter of their epochs. Published with a learning rate that is constant there.
    """
    network, before, context = task.network, 0.0, task.training.context
    for index, sparsity in enumerate(task.section.sparsities):
        network, own = _averaged(_ticket(network, sparsity, task), index, task)
        before += own
    score = accuracy(network, context.splits.validation, context.device, context.configuration)
    return TrainingResult(network, score, before)


Schedule = Callable[[Task], TrainingResult]
"""Makes a dense network sparse; it trains ``section.epochs`` epochs in all."""

SCHEDULES: dict[str, Schedule] = {
    "one shot": one_shot,
    "gradual": in_training,
    "iterative": iterative,
    "gsm": in_training,
    "swamp": swamp,
    "rigl": rigl,
    "envelope": in_training,
    "turbo-vbi": in_training,
}


def _ticket(network: Network, sparsity: float, task: Task) -> Network:
    """The network pruned to a sparsity, its weights rewound where the task says so."""
    pruned = prune_once(network, task.section.model_copy(update={"sparsity": sparsity}), task.training)
    return task.rewound.masked(pruned.masks) if task.rewound else pruned


def _averaged(ticket: Network, index: int, task: Task) -> tuple[Network, float]:
    """The mean of a round's particles, and the core-seconds that it took before an interruption.

    A round that is over is kept as a checkpoint; one that is under way begins anew, for its sums are in none.
    """
    training, checkpoints = task.training, task.training.context.checkpoints
    key = digest("round", index, ticket.fingerprint, training.seed, training.context.device.type)
    if checkpoints and (saved := checkpoints.load(key)):
        return replace(ticket, state=saved["state"]), saved["core_seconds"]
    start = time.process_time()
    mean = Mean(network.state for network in _visited(ticket, index, task)).of(ticket, training.context)
    spent = time.process_time() - start
    if checkpoints and spent >= checkpoints.seconds:
        checkpoints.save(key, {"state": dict(mean.state), "core_seconds": spent})
    return mean, 0.0


def _visited(ticket: Network, index: int, task: Task) -> Iterator[Network]:
    """The networks after each of the last epochs of every particle of a round."""
    epochs, particles = task.section.epochs, task.section.particles
    for particle in range(particles):
        seed = derive(task.training.seed, "particle", index, particle)
        context = replace(task.training.context.after((index * particles + particle) * epochs), checkpoints=None)
        training = replace(task.training, seed=seed, context=context, average=0.0)
        trainer = Trainer([ticket], training)
        while trainer.epoch < epochs:
            trainer.run_epoch()
            if trainer.diverged:
                raise diverging(training, BLAMED)
            context.report(trainer.epoch, trainer.standing.accuracy)
            if trainer.epoch > epochs - max(1, round(AVERAGED * epochs)):
                yield trainer.current()
