from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safs_ray.activations import find_sites
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.operators import OPERATORS
from safs_ray.sparse import graph
from safs_ray.sparse.graph import Activation, Affine, Average, Images, MaxPool, Normalisation, Same, Sum

EXAMPLE = torch.zeros(2, 1, 6, 6)


def read(module: nn.Module) -> tuple[graph.Step, ...]:
    sited = find_sites(module, EXAMPLE)
    return graph.read(sited.install([OPERATORS[name] for name in sited.defaults]), EXAMPLE)


def test_lenet5_step_by_step() -> None:
    specification = Specification("lenet5", (1, 28, 28), 10, (0.0,), (1.0,))
    steps = graph.read(Network.initial(specification, 0).build(), specification.example())
    kinds = [Images, *[Affine, Activation, MaxPool] * 2, Same, *[Affine, Activation] * 2, Affine]
    assert [type(step.operation) for step in steps] == kinds
    assert [step.inputs for step in steps] == [(), *((index,) for index in range(12))]
    assert [(step.channels, step.pixels) for step in steps[1:5]] == [(6, 576), (6, 576), (6, 144), (16, 64)]


def test_resnet18_has_its_sums_and_normalisations() -> None:
    specification = Specification("resnet18", (3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)
    steps = graph.read(Network.initial(specification, 0).build(), specification.example())
    counts = {kind: sum(isinstance(step.operation, kind) for step in steps) for kind in (Sum, Normalisation, Affine)}
    assert counts == {Sum: 8, Normalisation: 20, Affine: 21}


class Functional(nn.Module):
    """Functions in place of modules, and a flattening that asks for the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 2, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.out(x.view(x.size(0), -1))


def test_functions_are_steps_too() -> None:
    kinds = [type(step.operation) for step in read(Functional())]
    assert kinds == [Images, Affine, Activation, MaxPool, Average, Same, Affine]


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.body(x)


class Indexed(Multiplied):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.long().float())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Multiplied(), "^mul is no step"),
        (Indexed(), "^long gives torch.int64$"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU(), nn.LayerNorm(3)), "LayerNorm"),
        (nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Flatten()), "Dropout"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3, padding_mode="reflect"), nn.ReLU(), nn.Flatten()),
            "a Conv2d with padding_mode=reflect,",
        ),
        (nn.Sequential(nn.ReLU(), nn.Linear(6, 3), nn.Flatten()), "Linear"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "one tensor of logits"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_says_what_it_cannot_do(module: nn.Module, reason: str) -> None:
    with pytest.raises(graph.UnsupportedError, match=reason):
        read(module)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_adaptive_windows_are_torchs(size: int) -> None:
    image = torch.arange(20.0).view(1, 4, 5)
    table = graph.adaptive_windows((1, 4, 5), (1, size, size))
    means = [image.flatten()[row[row >= 0]].mean() for row in torch.from_numpy(table)]
    assert torch.allclose(torch.stack(means), F.adaptive_avg_pool2d(image, size).flatten())


def test_windows_of_a_padded_kernel() -> None:
    table = graph.windows((1, 2, 3), (1, 1, 2), graph.window((2, 3), 2, (0, 1)))
    assert table.tolist() == [[-1, 0, 1, -1, 3, 4], [1, 2, -1, 4, 5, -1]]
