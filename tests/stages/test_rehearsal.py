"""What a user is told of a network of their own before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safs_ray import stages
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.data import Dataset, Splits
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.sparse.module import SparseCohort
from tests.stages.altered import changed

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F


class Words(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(8, 8))
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.gate, self.head = nn.TransformerEncoder(block, 1), nn.Linear(8, 8), nn.Linear(8, classes)

    def forward(self, x):
        x = self.encoder(x[:, 0] + self.places).mean(1)
        return self.head(x * torch.sigmoid(self.gate(x)))


class Plain(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body, self.act, self.head = nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.act(self.body(x.flatten(1))))


class Forgetful(Plain):
    calls = 0

    def forward(self, x):
        Forgetful.calls += 1
        if Forgetful.calls > 33:
            raise RuntimeError("no more")
        return super().forward(x)
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rehearsed.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def own(configuration: Configuration, name: str) -> Configuration:
    return changed(configuration, "model", name=f"rehearsed:{name}")


def test_what_is_no_site_and_never_pruned_is_told(
    configuration: Configuration, dataset: Dataset, splits: Splits, caplog: pytest.LogCaptureFixture
) -> None:
    network = stages.check(own(configuration, "Words"), dataset, splits)
    assert network.sites == ("encoder.layers.0.relu",)
    told = [record.getMessage().removeprefix("model.name=rehearsed:Words: ") for record in caplog.records]
    assert told[0].startswith("used without dropout (encoder.layers.0.")
    assert told[1].startswith("runs its own code, with all weights: torch.fx: ")
    assert told[2:] == [
        "stay as they are: sigmoid",
        "64 of 720 weights are in tensors that are never pruned: places",
    ]


def test_a_plain_network_is_told_nothing_of(
    configuration: Configuration, dataset: Dataset, splits: Splits, caplog: pytest.LogCaptureFixture
) -> None:
    stages.check(own(configuration, "Plain"), dataset, splits)
    assert not caplog.records


def test_a_score_that_cannot_be_taken_is_refused_before_any_work(
    configuration: Configuration, dataset: Dataset, splits: Splits
) -> None:
    chosen = changed(own(configuration, "Words"), "pruning", score="synflow", allocation="global")
    with pytest.raises(ConfigurationError, match=r"^pruning.score=synflow: takes a network that is linear"):
        stages.check(chosen, dataset, splits)


def test_sparse_execution_that_differs_is_refused(
    configuration: Configuration, dataset: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = changed(own(configuration, "Plain"), "run", execution="sparse")
    stages.check(chosen, dataset, splits)

    class Wrong(SparseCohort):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * 1.01

    monkeypatch.setattr(
        "safs_ray.sparse.planned.FusedCohort", lambda made, networks: Wrong(made, networks[0], networks[0].build())
    )
    dense = executable(stages.check(configuration, dataset, splits), "dense", torch.device("cpu"))
    assert isinstance(dense.cohort, DenseCohort)
    with pytest.raises(ConfigurationError) as refused:
        stages.check(chosen, dataset, splits)
    assert str(refused.value).startswith("run.execution=sparse: gives logits that differ by ")
    assert str(refused.value).endswith("; allowed for this network: dense")


def check_often(configuration: Configuration, dataset: Dataset, splits: Splits) -> None:
    for _ in range(30):
        stages.check(configuration, dataset, splits)


def test_a_network_that_fails_later_is_refused_in_one_line(
    configuration: Configuration, dataset: Dataset, splits: Splits
) -> None:
    with pytest.raises(ConfigurationError, match=r"^model.name=rehearsed:Forgetful: fails .*RuntimeError: no more\)$"):
        check_often(own(configuration, "Forgetful"), dataset, splits)
