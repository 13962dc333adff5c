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
