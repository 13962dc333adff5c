"""A finished run without Ray: what a sweep leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.report import results
from safs_ray.stages import Result
from safs_ray.storage import Folder


@pytest.fixture(scope="session")
def run_folder(
    tmp_path_factory: pytest.TempPathFactory,
    configuration: Configuration,
    dataset: Dataset,
    dense: Result,
    pruned: Result,
    device: torch.device,
) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    folder, folds = Folder.at(path), stages.folds(configuration, dataset)

    def finals(assignment: tuple[str, ...], learn_scales: bool) -> list[Result]:
        recipe = stages.Recipe(assignment, configuration.pruning.hyperparameters, learn_scales)
        return [
            stages.finish(pruned.network, recipe, configuration, folds.final(fold), fold, device) for fold in range(2)
        ]

    rows = {"pruned": finals(("relu", "relu"), False), "SAFS": finals(("swish", "srs"), True)}
    tested = stages.test(dense, folds.search(), device, configuration.run)
    best = results.best_of(rows["SAFS"])
    folder.write("config.yaml", ("# Python 3.11.7, torch 2.15.0\n" + config.dump(configuration)).encode())
    best.save(folder / "networks" / "best")
    content = {
        "rows": results.table({"pruned": pruned, "SAFS": pruned}, {"dense": [tested], **rows}, [], {}),
        "assignment": best.network.activations(),
        "hyperparameters": configuration.pruning.hyperparameters.model_dump(),
        "search": results.search_cost([], {}),
    }
    folder.write_json(results.RESULTS, content)
    return path
