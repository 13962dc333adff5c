"""A finished run without Ray: what a sweep leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray import config, stages
from safs_ray.config import RESULTS, Configuration
from safs_ray.data import Dataset
from safs_ray.experiment import Row, results
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context


@pytest.fixture(scope="session")
def run_folder(
    tmp_path_factory: pytest.TempPathFactory,
    configuration: Configuration,
    dataset: Dataset,
    dense: Result,
    pruned: Result,
) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    folder, folds = Folder.at(path), stages.folds(configuration, dataset)

    def finals(assignment: tuple[str, ...], learn_scales: bool) -> list[Result]:
        recipe = Recipe(assignment, configuration.pruning.hyperparameters, learn_scales)
        contexts = [Context(configuration, folds.final(fold)) for fold in range(2)]
        return [stages.finish(pruned.network, context, recipe, fold) for fold, context in enumerate(contexts)]

    rows = {Row.PRUNED: finals(("relu", "relu"), False), Row.SAFS: finals(("swish", "srs"), True)}
    tested = stages.test(dense, Context(configuration, folds.search()))
    best = results.best_of(rows[Row.SAFS])
    folder.write("config.yaml", ("# Python 3.11.7, torch 2.15.0\n" + config.dump(configuration)).encode())
    best.save(folder / "networks" / "best")
    content = {
        "rows": results.table(dict.fromkeys(rows, pruned), {Row.DENSE: [tested], **rows}, [], {}, {}),
        "assignment": best.network.activations(),
        "hyperparameters": configuration.pruning.hyperparameters.model_dump(),
        "search": results.search_cost([], {}),
    }
    folder.write_json(RESULTS, content)
    return path
