"""The search: one chain in this process, and which of several has found the best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain, Course, joint
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.stages.finishing import last_training
from safs_ray.stages.preparing import searchable
from safs_ray.stages.recipe import Recipe
from safs_ray.stages.result import Result
from safs_ray.training import Report, Trainer, silent


@dataclass(frozen=True)
class Found:
    """What a search found: the best network after fine-tuning, how it came about, and every evaluation made."""

    network: Network
    recipe: Recipe
    validation_accuracy: float
    evaluations: tuple[Evaluation, ...]

    @property
    def assignment(self) -> Assignment:
        return self.recipe.assignment


def search(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    hyperparameters: Hyperparameters,
    device: torch.device,
    course: Course | None = None,
) -> Found:
    """One chain to its end, in this process; :mod:`safs_ray.tune` runs many, each with its hyperparameters.

    Of several, :func:`choose` takes one.

    Args:
        network: the sparse network, or the dense one that ``search.when`` has the trainings prune; its activations
            are where the search starts.
        splits: images uint8 (N, C, H, W) and labels; ``test`` is not read.
        hyperparameters: of every candidate's training and of the fine-tuning.
        course: the steps of the chain; without one, those of protocol joint.
    """
    ledger = Ledger()
    steps = course or joint(configuration)
    start = searchable(network, configuration)
    chain = Chain(start, splits, hyperparameters, configuration, device, ledger, steps, trial=steps.trial(0))
    while not chain.finished:
        evaluation = chain.step()
    recipe = Recipe(chain.best, hyperparameters, learn_scales=steps.own_hyperparameters)
    return Found(chain.network(), recipe, evaluation.best_accuracy, tuple(ledger.evaluations))


def choose(
    found: Sequence[Found], network: Network, configuration: Configuration, splits: Splits, device: torch.device
) -> Found:
    """The search whose recipe does best: the finalists of all are trained again, as the trials of a sweep are.

    Args:
        found: of searches that started from the network; at least one.
        network: as :func:`search` was given it.
        splits: of the search; ``test`` is not read.
    """
    recipes = {place: one.recipe for place, one in enumerate(found)}
    accuracies = {place: one.validation_accuracy for place, one in enumerate(found)}
    finalists = finalists_of(configuration, recipes, accuracies)
    if len(finalists) == 1:
        return found[finalists[0]]

    def trained(recipe: Recipe, number: int) -> float:
        return train_finalist(network, recipe, configuration, splits, number, device).validation_accuracy

    seeds = range(configuration.final.seeds)
    best, _ = winner_of({place: [trained(recipes[place], number) for number in seeds] for place in finalists})
    return found[best]


def finalists_of(
    configuration: Configuration, recipes: Mapping[int, Recipe], accuracies: Mapping[int, float]
) -> list[int]:
    """The trials whose recipes are trained again, because one training says little of a very sparse network.

    Args:
        recipes: what the trials of a sweep that reached their end have found, by number.
        accuracies: the validation accuracies that they reached, in [0, 1].

    Returns:
        The numbers of at most ``final.finalists`` trials, the best first; of equal recipes only the first.
    """
    ranked = sorted(recipes, key=lambda number: accuracies[number], reverse=True)
    first = {recipes[number]: number for number in reversed(ranked)}
    return [number for number in ranked if first[recipes[number]] == number][: configuration.final.finalists]


def winner_of(accuracies: Mapping[int, Sequence[float]]) -> tuple[int, float]:
    """The finalist of the highest mean validation accuracy, the first of equal ones, and that mean.

    Args:
        accuracies: of the trainings of each finalist, by the number of its trial, the best trial first.
    """
    means = {number: mean(values) for number, values in accuracies.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def train_finalist(
    network: Network,
    recipe: Recipe,
    configuration: Configuration,
    splits: Splits,
    number: int,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """A training like the last one, but on the images of the search: how well a finalist does, and how surely.

    Its validation accuracy is 0 when it diverges.

    Args:
        network: what the search started from.
        recipe: of the finalist.
        splits: of the search; ``test`` is not read.
        number: of this training, from 0, from which its seed follows: all finalists see the same batches.
    """
    start = time.process_time()
    seed = derive(configuration.run.seed, "finalist", number)
    training = last_training(recipe, configuration, splits, seed, device, checkpoints)
    trainer = Trainer(searchable(network, configuration).assign(recipe.assignment), training).run(report)
    accuracy = 0.0 if trainer.diverged else trainer.best_accuracy
    return Result(trainer.best(), accuracy, trainer.core_seconds_before + time.process_time() - start)
