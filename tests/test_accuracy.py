from __future__ import annotations

import pytest
import torch

from safs_ray.accuracy import accuracy, evaluation_batch
from safs_ray.config import Configuration
from safs_ray.data import Examples
from safs_ray.models import Specification
from safs_ray.network import Network


def test_accuracy_counts_exactly_and_gives_nothing_for_nan(device: torch.device) -> None:
    specification = Specification("mlp", (1, 8, 8), 10, (0.5,), (0.5,))
    network = Network.initial(specification, seed=0)
    images = torch.randint(0, 256, (25, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = network.build()(specification.normalised(images)).argmax(1)
    labels[:5] = (labels[:5] + 1) % 10
    assert accuracy(network, Examples(images, labels), device, Configuration()) == 20 / 25
    broken = Network(
        specification,
        network.sites,
        network.assignment,
        {**network.state, "fc3.bias": torch.full((10,), float("nan"))},
        {},
    )
    assert accuracy(broken, Examples(images, torch.zeros(25, dtype=torch.int64)), device, Configuration()) == 0


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 28, 28), 1000), ((3, 32, 32), 1000), ((3, 64, 64), 250), ((3, 224, 224), 20), ((3, 1024, 1024), 1)],
)
def test_large_images_are_evaluated_fewer_at_a_time(shape: tuple[int, int, int], size: int) -> None:
    assert evaluation_batch(torch.zeros(1, dtype=torch.uint8).expand(10**6, *shape)) == size
