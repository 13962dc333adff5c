"""A training loop that a user wrote, through whole runs: the one of docs/loop.md."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

import safs_ray
from tests.command import start
from tests.faults.runs import outcome

PAGE = Path(__file__).parents[1] / "docs" / "loop" / "mine.py"

KEYS = [
    "model.name=mine:network", "task.loop=mine:train", "data.source=inputs:mine:examples", "run.checkpoint_seconds=1",
    "pruning.recipe=one-shot-global", "pruning.sparsity=0.9", "pruning.epochs=3", "dense.epochs=10",
    "search.steps=3", "search.epochs=2", "finetune.epochs=4", "finetune.epochs_per_step=2",
    "tune.trials=2", "tune.grace_period=1", "tune.max_concurrent=1", "final.folds=2", "final.epochs=3",
]  # fmt: skip


@pytest.mark.slow
def test_run_by_a_loop_that_was_killed_ends_as_one_that_nobody_disturbed(tmp_path: Path) -> None:
    shutil.copy(PAGE, tmp_path / "mine.py")
    path = str(Path(safs_ray.__file__).parent.parent)
    whole = start(*KEYS, "run.name=whole", directory=tmp_path, PYTHONPATH=path)
    printed, _ = whole.communicate(timeout=280)
    assert whole.returncode == 0, printed
    begun = start(*KEYS, "run.name=killed", directory=tmp_path, PYTHONPATH=path)
    assert begun.stdout is not None
    for line in begun.stdout:
        if "trial-1" in line and "step  4" in line:  # in the middle of a fine-tuning
            begun.send_signal(signal.SIGKILL)
            break
    begun.wait(timeout=60)
    resumed = start("--resume", "runs/killed", directory=tmp_path, PYTHONPATH=path)
    printed, _ = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, printed
    assert outcome(tmp_path / "runs" / "killed") == outcome(tmp_path / "runs" / "whole")
