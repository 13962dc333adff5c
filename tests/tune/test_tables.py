"""A table of values to predict, through the command."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from safs_ray.report.__main__ import main as report
from safs_ray.tune.__main__ import main
from tests.command import start
from tests.tune.runs import ENDS, interrupted_at, untimed

KEYS = (
    "data.task=regression", "data.validation=0.2", "model.name=mlp", "dense.epochs=6", "pruning.sparsity=0.9",
    "pruning.epochs=2", "search.steps=3", "search.epochs=1", "finetune.epochs=2", "finetune.epochs_per_step=2",
    "tune.trials=2", "tune.grace_period=1", "tune.max_concurrent=1", "final.folds=2", "final.epochs=2",
)  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """scikit-learn's diabetes as a table; the keys of a run of it."""
    found = load_diabetes(as_frame=True).frame
    found[:340].to_parquet(tmp_path / "train.parquet")
    found[340:].to_csv(tmp_path / "test.csv", index=False)
    return [f"data.source=table:{tmp_path}", f"run.storage={tmp_path / 'runs'}", *KEYS]


def test_a_dry_run_says_what_is_predicted(keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*keys, "--dry-run"]) == 0
    assert "204 training, 68 validation and 102 test inputs of 10, 1 output" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_values_that_is_killed_ends_as_one_that_is_not(keys: list[str], tmp_path: Path) -> None:
    whole = start(*keys, "run.name=whole")
    output, _ = whole.communicate(timeout=ENDS)
    assert whole.returncode == 0, output
    assert "R² in per cent, mean ± sd of 2 folds" in output
    assert interrupted_at("step  2 of", signal.SIGKILL, *keys, "run.name=killed")[0] < 0
    resumed = start("--resume", str(tmp_path / "runs" / "killed"))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    runs = [tmp_path / "runs" / name for name in ("whole", "killed")]
    assert untimed(runs[0]) == untimed(runs[1])
    ends = [json.loads((run / "results.json").read_text()) for run in runs]
    accuracies = [[(row["name"], row["test_accuracy"]["values"]) for row in end["rows"]] for end in ends]
    assert accuracies[0] == accuracies[1]
    assert ends[0]["metric"] == "R²"
    assert report([str(runs[0])]) == 0
    page = (runs[0] / "report.html").read_text()
    assert "Test R² of each row in per cent" in page
    assert "ccuracy in per cent" not in page
    assert pd.DataFrame(ends[0]["rows"]).shape[0] == 3
