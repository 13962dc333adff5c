"""What a step of training takes, by hand and before anything is built."""

from __future__ import annotations

import time

import psutil
import pytest
import torch
from torch import nn

from safs_ray.models import Footprint, Specification, build, footprint_of
from safs_ray.models.footprint import footprint


def test_a_small_network_by_hand() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    # Four pixels and the three outputs of the ReLU; 12 + 3 + 6 + 2 weights.
    assert footprint(net, torch.zeros(5, 1, 2, 2)) == Footprint(weights=4 * 23, image=4 * (4 + 3), single=True)


def test_what_is_read_twice_is_kept_once_and_what_no_gradient_needs_not_at_all() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x) + self.two(x)  # type: ignore[no-any-return]

    assert footprint(Sum(), torch.zeros(2, 4)).image == 4 * 4


@pytest.mark.parametrize(("layer", "single"), [(nn.BatchNorm1d(4), False), (nn.LayerNorm(4), True)])
def test_batch_normalisation_takes_no_single_image(layer: nn.Module, single: bool) -> None:
    assert footprint(nn.Sequential(nn.Flatten(), layer), torch.zeros(2, 1, 2, 2)).single == single


@pytest.mark.parametrize(("name", "size"), [("lenet5", 28), ("mlp", 8), ("resnet18", 8)])
def test_it_is_known_without_building_the_network(name: str, size: int) -> None:
    specification = Specification(name, (3, size, size), 10, (0.1,) * 3, (0.3,) * 3)
    assert footprint_of(specification) == footprint(build(specification, seed=0), specification.example())


def test_a_network_larger_than_memory_is_measured_at_once() -> None:
    before, start = psutil.Process().memory_info().rss, time.process_time()
    needs = footprint_of(Specification("mlp", (10_000, 1024, 1024), 10, (0.1,) * 10_000, (0.3,) * 10_000))
    assert needs.weights == 4 * (10_000 * 1024**2 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10)
    assert needs.image == 4 * (10_000 * 1024**2 + 300 + 100)
    assert psutil.Process().memory_info().rss - before < 2**28
    assert time.process_time() - start < 5
