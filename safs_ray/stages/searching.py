"""The search: one chain in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safs_ray.config import Hyperparameters
from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.course import Course, joint
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.search.recipe import Recipe
from safs_ray.stages.preparing import searchable
from safs_ray.training import Context


def silent(_evaluation: Evaluation) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Search:
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
    context: Context,
    hyperparameters: Hyperparameters,
    course: Course | None = None,
    told: Callable[[Evaluation], object] = silent,
) -> Search:
    """One chain to its end, in this process; an experiment runs many, each with its hyperparameters.

    Args:
        network: the sparse network, or the dense one that ``search.when`` has the trainings prune; its activations
            are where the search starts.
        hyperparameters: of every candidate's training and of the fine-tuning.
        course: the steps of the chain; without one, those of protocol joint.
        told: is told of every evaluation once it is made.
    """
    ledger = Ledger()
    steps = course or joint(context.configuration)
    start = searchable(network, context.configuration)
    chain = Chain(start, context, hyperparameters, ledger, steps, trial=steps.trial(0))
    while not chain.finished:
        evaluation = chain.step()
        told(evaluation)
    recipe = Recipe(chain.best, hyperparameters, learn_scales=steps.searches_hyperparameters)
    return Search(chain.network(), recipe, evaluation.best_accuracy, tuple(ledger.evaluations))
