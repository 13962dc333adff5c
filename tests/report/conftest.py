"""Run folders as a run leaves them, made in this process by the stages themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safs_ray import config, stages
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.experiment import Row, results
from safs_ray.report.record import Record
from safs_ray.search.chain import Chain
from safs_ray.search.course import joint
from safs_ray.search.evaluation import Ledger
from safs_ray.search.recipe import Recipe
from safs_ray.search.records import to_parquet
from safs_ray.storage import Folder
from safs_ray.training import Context

TRIALS = (
    ("first", Hyperparameters(learning_rate=5e-3, weight_decay=1e-4, batch_size=32), 6),
    ("stopped", Hyperparameters(learning_rate=1e-4, weight_decay=1e-3, batch_size=32), 2),
    ("broken", Hyperparameters(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, batch_size=8), 5),
)
"""Name, hyperparameters and steps, of which there are 4 of search and 2 of fine-tuning; the last one diverges."""


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    configuration: Configuration,
    dataset: Dataset,
    dense: stages.Result,
    pruned: stages.Result,
) -> Path:
    """The folder of a run that has ended."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    folder = Folder.at(path)
    run = configuration.model_copy(update={"run": configuration.run.model_copy(update={"name": "finished"})})
    folder.write("config.yaml", ("# Python 3, torch 2\n" + config.dump(run)).encode())
    dense.save(folder / "networks/dense")
    pruned.save(folder / "networks/pruned")
    search(folder, configuration, dataset, pruned)
    conclude(folder, configuration, dataset, dense, pruned)
    return path


def search(folder: Folder, configuration: Configuration, dataset: Dataset, pruned: stages.Result) -> None:
    """The evaluations of the trials."""
    memory, context = Ledger(), Context(configuration, stages.folds(configuration, dataset).search())
    for name, hyperparameters, steps in TRIALS:
        chain = Chain(pruned.network, context, hyperparameters, memory, joint(configuration), name)
        for _ in range(steps):
            chain.step()
    folder = folder / "evaluations"
    folder.write("part-00000.parquet", to_parquet(memory.evaluations))


def conclude(
    folder: Folder, configuration: Configuration, dataset: Dataset, dense: stages.Result, pruned: stages.Result
) -> None:
    """The final evaluation and results.json."""
    folds, chosen = stages.folds(configuration, dataset), TRIALS[0][1]
    recipes = {
        Row.PRUNED: Recipe(pruned.network.assignment, chosen, learn_scales=False),
        Row.SAFS: Recipe(("swish", "srs"), chosen, learn_scales=True),
    }
    finals = {
        row: [
            stages.finish(pruned.network, Context(configuration, folds.final(fold)), recipe, fold)
            for fold in range(configuration.final.folds)
        ]
        for row, recipe in recipes.items()
    }
    finals[Row.DENSE] = [stages.test(dense, Context(configuration, folds.search()))]
    for row, done in finals.items():
        for fold, result in enumerate(done):
            result.save(folder / "networks/final" / row / f"fold-{fold}")
    best = results.best_of(finals[Row.SAFS])
    best.save(folder / "networks/best")
    evaluations = Record.read(folder).evaluations
    folder.write_json(
        "results.json",
        {
            "rows": results.table(dict.fromkeys(recipes, pruned), finals, evaluations, {}, {}),
            "assignment": best.network.activations(),
            "groups": 1,
            "hyperparameters": chosen.model_dump(),
            "search": results.search_cost(evaluations, {}),
            "wall_seconds": 12.0,
            "finished": True,
        },
    )


Variant = Callable[..., Path]


@pytest.fixture
def variant(finished: Path, tmp_path: Path) -> Variant:
    """Makes copies of the finished run: named, without some of its files, with other keys or results."""

    def make(
        name: str, without: tuple[str, ...] = (), results: dict[str, Any] | None = None, **keys: dict[str, Any]
    ) -> Path:
        path = tmp_path / name
        shutil.copytree(finished, path)
        for gone in without:
            shutil.rmtree(path / gone) if (path / gone).is_dir() else (path / gone).unlink()
        values = config.parse((path / "config.yaml").read_text(), "config.yaml")
        for section, changed in keys.items():
            values[section] |= changed
        (path / "config.yaml").write_text("# Python 3, torch 2\n" + config.dump(config.validate(values)))
        if results is not None:
            (path / "results.json").write_text(json.dumps(results))
        return path

    return make


@pytest.fixture
def record(finished: Path) -> Record:
    return Record.read(Folder.at(finished))


@pytest.fixture
def unfinished(variant: Variant) -> Record:
    """While its search runs."""
    return Record.read(Folder.at(variant("unfinished", ("results.json", "networks/final", "networks/best"))))


@pytest.fixture
def bare(variant: Variant) -> Record:
    """Of which only the configuration and the results were kept."""
    return Record.read(Folder.at(variant("bare", ("networks", "evaluations"))))
