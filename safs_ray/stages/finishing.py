"""The last training of every row of the table, and the test images."""

from __future__ import annotations

import time
from dataclasses import replace

from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.schedules import rule_of
from safs_ray.search.recipe import Recipe
from safs_ray.stages.preparing import searchable
from safs_ray.stages.result import Result, trained
from safs_ray.training import Context, Training, begin, measure, sparse_training


def train_finalist(network: Network, context: Context, recipe: Recipe, number: int) -> Result:
    """A training like the last one, but on the images of the search: how well a finalist does, and how surely.

    Its validation accuracy is the worst when it diverges.

    Args:
        network: what the search started from.
        number: of this training, from 0, from which its seed follows: all finalists see the same batches.
    """
    start = time.process_time()
    begun = _begun(network, recipe, context)
    training = _last_training(begun, recipe, context, derive(context.seed, "finalist", number))
    trainer = begin([begun], training).run()
    standing, worst = trainer.standing, context.configuration.worst_score
    score = worst if trainer.diverged else standing.best_accuracy
    return Result(standing.best, score, trainer.core_seconds_before + time.process_time() - start)


def finish(network: Network, context: Context, recipe: Recipe, fold: int) -> Result:
    """The last training of a row of the table, the same length for every row; then the test images, once.

    A training that diverges before its first epoch is over leaves the network as it was: that is the row's result.

    Args:
        network: the pruned network, or the dense one that ``search.when`` during prunes here.
        context: its splits are those of the fold.
        recipe: of the row.
        fold: its number, from which the seed follows.
    """
    begun = _begun(network, recipe, context)
    training = _last_training(begun, recipe, context, derive(context.seed, "final", fold))
    # A network that masks were to grow in is no sparse network without that training.
    blamed = "pruning.hyperparameters.learning_rate" if context.configuration.search.when == "during" else None
    return test(trained(begun, training, blamed), context)


def test(result: Result, context: Context) -> Result:
    """The result with its accuracy on the test images."""
    return replace(result, test_accuracy=measure(result.network, context, test=True))


def _begun(network: Network, recipe: Recipe, context: Context) -> Network:
    return searchable(network, context.configuration).assign(recipe.assignment)


def _last_training(network: Network, recipe: Recipe, context: Context, seed: int) -> Training:
    configuration = context.configuration
    epochs, rule = configuration.final.epochs, rule_of(configuration, network)
    return sparse_training(context, recipe.hyperparameters, epochs, seed, recipe.learn_scales, rule)
