from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from safs_ray import machine, stages
from safs_ray.config import Configuration, TrainingSection
from safs_ray.data import Dataset
from safs_ray.experiment.forecasting import SecondsPerEpoch
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.announcement import announce, forecast
from tests.stages.altered import changed

EPOCH = SecondsPerEpoch(10.0, 1.0, 1.0)


def test_of_one_there_is_no_plural(
    configuration: Configuration, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1)
    run = changed(changed(configuration, "final", folds=1), "search", steps=1)
    run = changed(changed(run, "tune", trials=1, scheduler="none"), "finetune", epochs=2)
    splits, console = stages.folds(run, dataset).search(), Console(file=io.StringIO(), highlight=False)
    announce(run, splits, stages.check(run, dataset, splits), Folder("/runs/mine"), 70.0, ["budget     2 min"], console)
    assert isinstance(console.file, io.StringIO)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert lines[2] == "2 sites, 4 operators, 1 trial of 1 evaluation and a fine-tuning, 1 fold"
    assert lines[4] == "about 70 s on 1 worker of this machine"
    assert lines[5] == "budget     2 min"
    taught = run.model_copy(update={"training": TrainingSection(label_smoothing=0.1)})
    announce(taught, splits, stages.check(run, dataset, splits), Folder("/runs/mine"), 70.0, [], console)
    assert "\n  trained with label smoothing 0.1\n" in console.file.getvalue()


def test_forecast_leaves_out_what_is_done(configuration: Configuration, dense: Result, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    whole = forecast(configuration, EPOCH, folder)
    dense.save(folder / "networks/dense")
    dense.save(folder / "networks/final/SAFS/fold-0")
    left = forecast(configuration, EPOCH, folder)
    assert left == {**whole, "dense": 0, "final": whole["final"] * 3 / 4}, "one of four final trainings is done"


def test_forecast_of_a_network_that_came_pruned_has_no_pruning(
    configuration: Configuration, dense: Result, tmp_path: Path
) -> None:
    run = changed(configuration, "model", weights="pruned.pt", pruned=True)
    folder = Folder.at(tmp_path)
    whole = forecast(run, EPOCH, folder)
    dense.save(folder / "networks/pruned")  # as the command does with the network of the file
    assert forecast(run, EPOCH, folder) == whole
    assert "pruned" not in whole
