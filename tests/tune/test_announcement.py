from __future__ import annotations

import io

import pytest
from rich.console import Console

from safs_ray import machine, stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.experiment import plan
from safs_ray.storage import Folder
from safs_ray.tune.announcement import _one_after_another, announce
from tests.stages.altered import changed


def told(configuration: Configuration, workers: int, **tune: object) -> float:
    changed = configuration.model_copy(update={"tune": configuration.tune.model_copy(update=tune)})
    return _one_after_another(changed, plan(changed), workers)


def test_trainings_that_wait_for_one_another_take_their_time(configuration: Configuration) -> None:
    planned = plan(configuration)
    trials = planned["search"] + planned["fine-tuning"]
    assert told(configuration, workers=1) == sum(planned.values()) - planned["dense training"]
    last = planned["finalists"] + planned["final evaluation"]
    assert told(configuration, workers=3, max_concurrent=None) == planned["pruning"] + trials / 3 + last / 3
    assert told(configuration, workers=3, max_concurrent=1) == planned["pruning"] + trials + last / 3
    assert told(configuration, workers=100, max_concurrent=None) == pytest.approx(
        planned["pruning"] + trials / 3 + last / 100
    )


def test_of_one_there_is_no_plural(
    configuration: Configuration, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1)
    run = changed(changed(configuration, "final", folds=1), "search", steps=1)
    run = changed(changed(run, "tune", trials=1, scheduler="none"), "finetune", epochs=2)
    splits, console = stages.folds(run, dataset).search(), Console(file=io.StringIO(), highlight=False)
    announce(run, splits, stages.check(run, dataset, splits), Folder("/runs/mine"), console)
    assert isinstance(console.file, io.StringIO)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert lines[2] == "2 sites, 4 operators, 1 trial of 1 evaluation and a fine-tuning, 1 fold"
    assert lines[4].endswith(" on 1 worker of this machine")
