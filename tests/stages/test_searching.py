from __future__ import annotations

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import Result
from safs_ray.training import Context
from tests.stages.altered import changed


def test_search_never_ends_below_its_start(configuration: Configuration, pruned: Result, context: Context) -> None:
    found = stages.search(pruned.network, context, configuration.pruning.hyperparameters)
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    best = max(searched, key=lambda evaluation: evaluation.validation_accuracy)
    assert best.validation_accuracy >= searched[0].validation_accuracy
    assert found.assignment == best.assignment
    assert len(found.evaluations) == configuration.iterations


def test_search_tells_of_every_evaluation(configuration: Configuration, pruned: Result, context: Context) -> None:
    told: list[Evaluation] = []
    found = stages.search(pruned.network, context, configuration.pruning.hyperparameters, told=told.append)
    assert tuple(told) == found.evaluations


def test_groups_of_channels_have_operators_and_scales_of_their_own(
    configuration: Configuration, pruned: Result, splits: Splits
) -> None:
    grouped = Context(changed(configuration, "search", granularity="group", groups=3), splits)
    found = stages.search(pruned.network, grouped, configuration.pruning.hyperparameters)
    assert found.network.sites == ("act1.0", "act1.1", "act1.2", "act2.0", "act2.1", "act2.2")
    searched = [evaluation for evaluation in found.evaluations if evaluation.phase == "search"]
    assert searched[0].assignment == ("relu",) * 6
    assert any(len(set(evaluation.assignment)) > 1 for evaluation in searched)
    assert len({activation["alpha"] for activation in found.network.activations().values()}) > 1
    assert found.network.nonzero_weights == pruned.network.nonzero_weights
