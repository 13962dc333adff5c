from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Hyperparameters
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer, Training


def training(context: Context, checkpoints: Checkpoints | None) -> Training:
    chosen = Hyperparameters(learning_rate=5e-3, batch_size=32, schedule="cosine")
    return Training(replace(context, checkpoints=checkpoints), chosen, 4, 0)


@pytest.mark.parametrize("done", [1, 3, 4])
def test_a_training_goes_on_bit_for_bit(pruned: Result, context: Context, tmp_path: Path, done: int) -> None:
    whole = Trainer([pruned.network], training(context, None)).run()
    kept = training(context, Checkpoints(Folder.at(tmp_path), seconds=0))
    first = Trainer([pruned.network], kept)
    for _ in range(done):
        first.run_epoch()
    second = Trainer([pruned.network], kept)
    assert (second.epoch, second.standing.accuracy, second.core_seconds) == (
        done,
        first.standing.accuracy,
        first.core_seconds,
    )
    second.run()
    assert second.standing.best.fingerprint == whole.standing.best.fingerprint
    assert second.current().fingerprint == whole.current().fingerprint
    assert second.standing.accuracy == whole.standing.accuracy


def test_another_training_does_not_take_it(pruned: Result, dense: Result, context: Context, tmp_path: Path) -> None:
    kept = training(context, Checkpoints(Folder.at(tmp_path), seconds=0))
    Trainer([pruned.network], kept).run_epoch()
    assert Trainer([dense.network], kept).epoch == 0
    assert Trainer([pruned.network.assign(["tanh", "tanh"])], kept).epoch == 0
    assert Trainer([pruned.network], kept).epoch == 1


def test_a_short_training_leaves_nothing(pruned: Result, context: Context, tmp_path: Path) -> None:
    Trainer([pruned.network], training(context, Checkpoints(Folder.at(tmp_path / "states")))).run()
    assert not (tmp_path / "states").exists()


@pytest.mark.parametrize("length", [0, 10, 40, 300])
def test_a_damaged_state_is_none(tmp_path: Path, length: int) -> None:
    checkpoints = Checkpoints(Folder.at(tmp_path))
    state = {"epoch": 3, "weights": {"a": torch.arange(100.0)}}
    checkpoints.save("key", state)
    found = checkpoints.load("key")
    assert found is not None
    assert torch.equal(found["weights"]["a"], state["weights"]["a"])  # type: ignore[index]
    file = tmp_path / "key"
    content = file.read_bytes()
    file.write_bytes(content[:length])
    assert checkpoints.load("key") is None
    file.write_bytes(content[:-5] + b"x" + content[-4:])
    assert checkpoints.load("key") is None
    checkpoints.clear()
    assert checkpoints.load("key") is None
    assert not tmp_path.exists()
