"""A network that a user wrote and pruned, from files outside the package, through a whole run."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune

import safs_ray
from safs_ray.network import Network
from safs_ray.storage import Folder
from safs_ray.tune.__main__ import main
from tests.command import start

MODULE = """
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.fc1 = nn.Linear(channels * size**2, 12)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(12, classes)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x.flatten(1)))))
"""
KEYS = [
    "model.name=networks_of_a_user:Net", "model.weights=pruned.pt", "model.pruned=true",
    "data.size=8", "data.limit=160", "data.validation=0.2", "data.mean=[0]", "data.deviation=[1]",
    "search.steps=3", "search.epochs=1", "finetune.epochs=1", "finetune.epochs_per_step=1",
    "tune.trials=2", "tune.grace_period=1", "tune.max_concurrent=1", "final.folds=1", "final.epochs=1",
]  # fmt: skip


@pytest.fixture
def mask(tmp_path: Path) -> torch.Tensor:
    """Write the user's module and weights; returns which weights of the first layer are kept."""
    (tmp_path / "networks_of_a_user.py").write_text(MODULE)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(MODULE, names)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = names["Net"](1, 8, 10)
    for layer in (net.fc1, net.fc2):
        prune.l1_unstructured(layer, "weight", 0.75)
    torch.save({"epoch": 7, "state_dict": net.state_dict()}, tmp_path / "pruned.pt")
    kept: torch.Tensor = net.fc1.weight_mask.bool()
    return kept


RAISING = """
from pathlib import Path
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.fc1 = nn.Linear(channels * size**2, 12)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(12, classes)

    def forward(self, x):
        if self.training and len(x) > 2 and Path("flag").exists():  # not on the two images of the check
            raise RuntimeError("no such device\\nhere")
        return self.fc2(self.act(self.fc1(x.flatten(1))))
"""


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return start(*arguments, directory=folder, PYTHONPATH=str(Path(safs_ray.__file__).parent.parent))


@pytest.mark.slow
def test_goes_through_and_its_file_is_needed_once(tmp_path: Path, mask: torch.Tensor) -> None:
    begun = begin(tmp_path, *KEYS, "run.name=own")
    assert begun.stdout is not None
    head = ""
    for line in begun.stdout:
        head += line
        if "--resume" in line:  # the last line before the work begins
            begun.send_signal(signal.SIGKILL)
            break
    begun.communicate(timeout=60)
    assert begun.returncode == -signal.SIGKILL, head
    for part in ("used without dropout (drop)", "starts from pruned.pt", "sparsity 75 % as it comes: 222 of 888"):
        assert part in head
    (tmp_path / "pruned.pt").unlink()

    resumed = begin(tmp_path, "--resume", "runs/own")
    output, _ = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, output
    results = json.loads((tmp_path / "runs" / "own" / "results.json").read_text())
    assert [(row["name"], row["nonzero_weights"]) for row in results["rows"]] == [("pruned", 222), ("SAFS", 222)]
    assert list(results["assignment"]) == ["relu"]
    best = Network.load(Folder.at(tmp_path / "runs" / "own" / "networks" / "best"))
    assert torch.equal(best.masks["fc1.weight"], mask)
    assert not best.state["fc1.weight"][~mask].any()
    assert not (tmp_path / "runs" / "own" / "networks" / "dense").exists()


@pytest.fixture
def raising(tmp_path: Path) -> list[str]:
    """Write a network that raises in training while a file named flag lies there; returns what a run of it is told."""
    (tmp_path / "raising_network_of_a_user.py").write_text(RAISING)
    (tmp_path / "flag").touch()
    return ["model.name=raising_network_of_a_user:Net", *KEYS[3:], "dense.epochs=1", "pruning.epochs=1"]


@pytest.mark.slow
def test_a_network_that_raises_ends_in_one_line_and_goes_on_when_it_is_mended(
    tmp_path: Path, raising: list[str]
) -> None:
    failed = begin(tmp_path, *raising, "run.name=raising", "run.verbose=0")
    output, _ = failed.communicate(timeout=280)
    assert failed.returncode == 1
    assert output.count("failed:") == 1, output
    warning, failure = output.splitlines()
    assert warning.startswith("model.name=raising_network_of_a_user:Net: runs its own code")
    assert failure.startswith(
        "failed: RuntimeError: no such device; traceback in runs/raising/failure.txt; finished and"
    )
    assert "kept: nothing yet; the rest is left. Resumed as it is, it would end the same way; once the cause" in output
    told = (tmp_path / "runs" / "raising" / "failure.txt").read_text()
    assert "-m safs_ray.tune model.name=raising_network_of_a_user:Net" in told.splitlines()[0]
    assert "raising_network_of_a_user.py" in told

    (tmp_path / "flag").unlink()
    resumed = begin(tmp_path, "--resume", "runs/raising")
    output, _ = resumed.communicate(timeout=280)
    assert resumed.returncode == 0, output
    assert not (tmp_path / "runs" / "raising" / "failure.txt").exists()


def test_a_dry_run_of_a_network_that_raises_is_told_and_writes_nothing(
    tmp_path: Path, raising: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([*raising, "--dry-run"]) == 1
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1] == "failed: RuntimeError: no such device; nothing was begun"
    assert "raising_network_of_a_user.py" in printed, "the traceback, for there is no folder to write it to"
    assert not (tmp_path / "runs").exists()
