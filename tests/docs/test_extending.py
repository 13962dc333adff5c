"""What docs/extending.md shows works as it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.operators import lookup
from safs_ray.pruning import structure
from safs_ray.pruning.scores import Evidence
from safs_ray.search.evaluation import evaluate
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context, Training
from tests.docs.extending.operator import bump
from tests.docs.extending.pruner import relative_magnitude
from tests.docs.extending.strategy import Sweep

FOLDER = Path(__file__).parents[2]
BUMP = "tests.docs.extending.operator:bump"


@pytest.mark.parametrize("kind", ["operator", "pruner", "strategy"])
def test_each_is_shown_whole_and_has_under_20_lines(kind: str) -> None:
    page = (FOLDER / "docs" / "extending.md").read_text()
    file = f"tests/docs/extending/{kind}.py"
    assert f'--8<-- "{file}"' in page
    assert len((FOLDER / file).read_text().splitlines()) < 20


def test_an_operator_is_searched_and_its_parameter_learned(
    configuration: Configuration, pruned: Result, splits: Splits
) -> None:
    assert lookup(BUMP).parameters == {"width": 1.0}
    values = configuration.model_dump(mode="json")
    values["search"] |= {"operators": ["relu", BUMP], "steps": 3}
    context = Context(config.validate(values), splits)
    found = stages.search(pruned.network, context, configuration.pruning.hyperparameters)
    assert any(BUMP in evaluation.assignment for evaluation in found.evaluations)
    recipe = Recipe((BUMP, BUMP), configuration.pruning.hyperparameters, learn_scales=True)
    trained = stages.finish(pruned.network, with_test(context), recipe, 0).network
    assert all(trained.state[f"{site}.internal.width"].item() != 1 for site in trained.sites)
    assert bump(torch.tensor(0.5)).item() == pytest.approx(0.5 * 0.7788008)


def with_test(context: Context) -> Context:
    splits = context.splits
    return replace(context, splits=Splits(splits.train, splits.validation, splits.validation))


def test_a_pruner_scores_weights_and_the_rest_follows(configuration: Configuration, dense: Result) -> None:
    module = dense.network.build().eval()
    scores = relative_magnitude(Evidence(module, torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)))
    assert all(score.flatten(1).amax(1).allclose(torch.ones(len(score))) for score in scores.values())
    masks = structure.select(scores, 0.9, configuration.pruning, {})
    pruned = dense.network.masked(masks)
    assert pruned.sparsity == pytest.approx(0.9, abs=0.01)
    weight = dense.network.state[next(iter(scores))]
    assert torch.equal(scores[next(iter(scores))][0], weight[0].abs() / weight[0].abs().max())


def test_a_strategy_proposes_and_learns(configuration: Configuration, pruned: Result, context: Context) -> None:
    training = Training(context, configuration.pruning.hyperparameters, epochs=1, seed=0)
    strategy = Sweep(("relu", "tanh", "srs"), pruned.network.assignment, seed=0)
    costs = {}
    for _ in range(7):
        candidate = strategy.ask()
        costs[candidate] = evaluate(pruned.network, [candidate], training)[0].cost
        strategy.tell(costs[candidate])
    assert strategy.best_cost == min(costs.values())
    first = [candidate for candidate in costs if candidate[1] == pruned.network.assignment[1]]
    assert {candidate[0] for candidate in first} == {"relu", "tanh", "srs"}
