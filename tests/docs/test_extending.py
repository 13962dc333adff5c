"""The parts that docs/extending.md shows work as it says, named in a configuration as a user names them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from safs_ray import config, experiment, stages
from safs_ray.config import Configuration, ConfigurationError, Hyperparameters
from safs_ray.experiment.local import InProcess
from safs_ray.operators import lookup
from safs_ray.pruning.scores import Evidence, find_score
from safs_ray.references import resolve
from safs_ray.search.recipe import Recipe
from safs_ray.search.strategy import make
from safs_ray.training import Context

FOLDER = Path(__file__).parents[2]
PAGE = FOLDER / "docs" / "extending.md"
MODULES = {
    "bump": "search.operators=[relu,swish,tanh,bump:bump]",
    "relative": "pruning.score=relative:relative_magnitude",
    "two_cuts": "pruning.schedule=two_cuts:two_cuts",
    "tabu": "search.strategy=tabu:Tabu",
}
"""What the page adds to a command to use each of its modules."""

SMALL = (
    "data.size=8", "data.limit=60", "model.name=mlp", "dense.epochs=1", "pruning.epochs=2", "search.steps=6",
    "search.epochs=1", "finetune.epochs=1", "finetune.epochs_per_step=1", "tune.trials=1", "tune.grace_period=1",
    "final.folds=1", "final.epochs=1", "final.finalists=1", "run.execution=dense",
)  # fmt: skip
"""On the quickstart: a run that takes a moment."""


@pytest.fixture(autouse=True)
def folder_of_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command puts the folder that it is called from, with the modules, on the path."""
    monkeypatch.syspath_prepend(FOLDER / "tests" / "docs" / "extending")


def quoted(word: str) -> str:
    """As a person types it in a shell, for which brackets are signs of its own."""
    return f"'{word}'" if "[" in word else word


def configured(*words: str) -> Configuration:
    return config.load(config.quickstart(), [*SMALL, *words])


def experiment_of(configuration: Configuration) -> tuple[dict[str, Any], InProcess]:
    dataset = stages.load(configuration)
    network = stages.check(configuration, dataset, stages.folds(configuration, dataset).search())
    executor = InProcess(configuration, dataset)
    return experiment.run(configuration, network.specification, executor), executor


@pytest.mark.parametrize("module", MODULES)
def test_the_page_shows_each_module_and_its_test_whole_and_in_under_20_lines(module: str) -> None:
    page = PAGE.read_text()
    for name in (module, f"test_{module}"):
        file = f"tests/docs/extending/{name}.py"
        assert f'--8<-- "{file}"' in page
        assert len((FOLDER / file).read_text().splitlines()) < 20
    assert f"    python -m safs_ray.tune run.name={module} {quoted(MODULES[module])}\n" in page


def test_an_experiment_takes_an_operator_a_score_a_schedule_and_a_strategy() -> None:
    results, executor = experiment_of(configured(*MODULES.values()))
    assert [row["name"] for row in results["rows"]] == ["dense", "pruned", "SAFS"]
    assert [row["nonzero_weights"] for row in results["rows"]] == [50_200, 502, 502]
    candidates = [each.assignment for each in executor.evaluations() if each.phase == "search"]
    assert len(candidates) == len(set(candidates)) == 6
    assert any("bump:bump" in candidate for candidate in candidates)


def test_bump_is_computed_and_its_width_is_learned() -> None:
    operator = lookup("bump:bump")
    assert operator.parameters == {"width": 1.0}
    assert operator.function(torch.tensor(0.5), torch.tensor(1.0)).item() == pytest.approx(0.5 * math.exp(-0.25))
    configuration = configured("pruning.sparsity=0.5")
    context, recipe = context_of(configuration), Recipe(("bump:bump",) * 2, Hyperparameters(), learn_scales=True)
    dense = stages.train_dense(stages.specify(configuration, stages.load(configuration), context.splits), context)
    trained = stages.train_finalist(dense.network, context, recipe, number=0).network
    assert all(trained.state[f"{site}.internal.width"].item() != 1 for site in trained.sites)


def test_relative_magnitude_is_1_for_the_largest_weight_of_each_neuron() -> None:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -4.0], [0.2, 0.1]]))
    score = find_score("relative:relative_magnitude")
    scores = score(Evidence(module, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)))
    assert scores["weight"].tolist() == [[0.25, 1.0], [1.0, 0.5]]


def test_two_cuts_trains_half_of_the_epochs_with_a_part_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    two_cuts = resolve("two_cuts:two_cuts", "pruning.schedule")
    told: list[tuple[int, int]] = []
    train = two_cuts.__globals__["train"]

    def noting(network: Any, training: Any, blamed: str) -> Any:
        told.append((network.nonzero_weights, training.epochs))
        return train(network, training, blamed)

    monkeypatch.setitem(two_cuts.__globals__, "train", noting)
    configuration = configured(MODULES["two_cuts"], "pruning.epochs=3", "pruning.sparsity=0.99")
    context = context_of(configuration)
    dense = stages.train_dense(stages.specify(configuration, stages.load(configuration), context.splits), context)
    stages.prune(dense.network, context)
    assert told == [(5_020, 1), (502, 2)]


def context_of(configuration: Configuration) -> Context:
    return Context(configuration, stages.folds(configuration, stages.load(configuration)).search())


def test_tabu_proposes_each_neighbour_of_the_best_once() -> None:
    strategy = make(configured(MODULES["tabu"], "search.operators=[relu,tanh,srs]").search, ("relu", "relu"), seed=0)
    proposed = []
    for _ in range(5):
        proposed.append(strategy.ask())
        strategy.tell(0.5)  # so the start stays the best
    assert proposed[0] == ("relu", "relu")
    assert set(proposed[1:]) == {("tanh", "relu"), ("srs", "relu"), ("relu", "tanh"), ("relu", "srs")}


def test_a_part_that_breaks_a_promise_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn.py").write_text(
        "from safs_ray.search.random import RandomSearch\n"
        "def always_the_same(operators, start, seed):\n"
        "    return RandomSearch(operators, start, 0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as told:
        experiment_of(configured("search.strategy=stubborn:always_the_same"))
    assert str(told.value) == "search.strategy=stubborn:always_the_same: proposes the same whatever the seed"
    assert f"    error: {told.value}\n" in PAGE.read_text()
