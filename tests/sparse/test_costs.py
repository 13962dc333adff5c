from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from safs_ray.config import TYPICAL, Costs
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse import costs, plan
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.module import SparseCohort
from safs_ray.sparse.plan import Plan, Work


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where costs are kept; they are measured less often than they should be."""
    monkeypatch.setattr(costs, "REPEATS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "safs_ray"


def test_measures_what_is_of_the_size_of_the_typical() -> None:
    threads = torch.get_num_threads()
    measured = costs.measure()
    assert all(typical / 30 < each < typical * 30 for each, typical in zip(measured, TYPICAL, strict=True))
    assert measured.nonzero < measured.neuron < measured.crossing
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Costs(2.0, 30.0, 400.0), Costs(2.0, 30.0, 400.0)),
        (Costs(-2.0, 30.0, 4000.0), Costs(TYPICAL.nonzero, 30.0, TYPICAL.crossing)),
    ],
)
def test_takes_costs_from_times(given: Costs, found: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Cohort] = []
    monkeypatch.setattr(costs, "_step", timed.append)
    monkeypatch.setattr(costs, "_fastest", lambda _: [3e-9 * work.time(given) for work in works(timed)])
    assert costs.measure() == found


def works(timed: list[Cohort]) -> list[Work]:
    dense, *sparse = timed
    assert isinstance(dense, DenseCohort)
    plans = [cohort._plan for cohort in sparse if isinstance(cohort, SparseCohort)]
    assert [len(made.dense) for made in plans] == [0, 0, 4]  # three convolutions and the linear layer
    return [plans[0].work_of_dense, *(made.work for made in plans)]


def test_times_what_trains() -> None:
    network, module = costs._probe()
    probe = DenseCohort(network, module, torch.device("cpu")).eval()
    costs._step(probe)()
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    assert len(norms) == 3
    assert all(norm.training and norm.num_batches_tracked == 1 for norm in norms)


def test_measures_once(cache: Path) -> None:
    first = costs.of_this_machine()
    (file,) = cache.iterdir()
    assert Costs(*json.loads(file.read_text())) == first == costs.of_this_machine()
    file.write_text("[1.5, 2.5, 3.5]")
    assert costs.of_this_machine() == Costs(1.5, 2.5, 3.5)


def test_measures_again_what_is_damaged(cache: Path) -> None:
    costs.of_this_machine()
    (file,) = cache.iterdir()
    for text in ("", "[1.5, 2.5", "[1.5]", "[1.5, 2.5, 0]", '{"a": 1}', '["a", "b", "c"]'):
        file.write_text(text)
        assert min(costs.of_this_machine()) > 0
        assert len(json.loads(file.read_text())) == 3


@pytest.mark.usefixtures("cache")
def test_needs_no_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert min(costs.of_this_machine()) > 0


def mlp() -> Plan:
    """784-300-100-10 without every fifth weight of the first layer and two neurons of the second."""
    network = Network.initial(Specification("mlp", (1, 28, 28), 10, (0.5,), (0.25,)), seed=0)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    masks["fc1.weight"].view(-1)[::5] = False
    masks["fc3.weight"][:, 98:] = False
    return plan.make(network.masked(masks), network.build())


def test_counts_what_an_image_takes() -> None:
    made = mlp()
    neurons = 2 * 784 + 2 * 300 + 2 * 100 + 10  # images, flattened; two layers with their activations; logits
    assert made.work_of_dense == Work(784 * 300 + 300 * 100 + 100 * 10, 0, neurons, 0)
    assert made.work == Work(0, 784 * 300 * 4 // 5 + 300 * 98 + 98 * 10, neurons - 2 * 2, 0)
    assert Work(1, 20, 300, 4000).time(Costs(2, 3, 4)) == 1 + 40 + 900 + 16000


def test_the_gain_follows_the_costs() -> None:
    made = mlp()
    dense, sparse = made.work_of_dense, made.work
    assert made.gain(Costs(1, 1e-6, 1)) == pytest.approx(dense.dense / sparse.nonzeros, rel=1e-3)
    assert made.gain(Costs(1e-6, 1, 1)) == pytest.approx((dense.dense + dense.neurons) / sparse.neurons, rel=1e-3)
    gains = [made.gain(TYPICAL._replace(nonzero=each)) for each in np.linspace(1, 50, 10)]
    assert gains == sorted(gains, reverse=True)
