"""Which steps are computed in the same passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from safs_ray.config import TYPICAL, Costs
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.sparse import plan
from safs_ray.sparse.fusion import units
from safs_ray.sparse.graph import Activation


class Block(nn.Module):
    """A residual block whose shortcut is normalised, too."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
        self.shortcut = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


class Twice(nn.Module):
    """A normalised value that two read, of a convolution that two read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv(x)
        normed = self.norm(convolved)
        out: Tensor = self.activation(normed) + normed + convolved
        return out


def kinds(build: nn.Module, monkeypatch: pytest.MonkeyPatch, costs: Costs = TYPICAL) -> list[list[str]]:
    """The operations of every unit of a network that begins with this one."""
    whole = nn.Sequential(build, nn.Flatten(), nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 3))
    whole(torch.zeros(2, 2, 4, 4))
    monkeypatch.setitem(ARCHITECTURES, "drawn", Architecture(lambda _: whole))
    specification = Specification("drawn", (2, 4, 4), 3, (0.5,) * 2, (0.5,) * 2)
    network = Network.initial(specification, seed=0)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    monkeypatch.setattr(plan, "MOST_CONNECTIONS", 0)
    made = plan.make(network.masked(masks), network.build(), costs)
    sites = {step.operation.site for step in made.steps if isinstance(step.operation, Activation)}
    found = units(made, sites)
    assert all(last == unit.steps[-1] for last, unit in found.items())
    return [[type(made.steps[index].operation).__name__ for index in unit.steps] for unit in found.values()]


NORMED = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
ONLY_NONZEROS = TYPICAL._replace(nonzero=1e-6)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([*NORMED], ["Affine", "Normalisation"]),
        ([nn.BatchNorm2d(2)], ["Normalisation"]),
        ([*NORMED, nn.ReLU(), nn.MaxPool2d(2)], ["Affine", "Normalisation", "Activation", "MaxPool"]),
        ([*NORMED, nn.MaxPool2d(2), nn.ReLU()], ["Affine", "Normalisation", "MaxPool"]),
        ([*NORMED, nn.ReLU(), nn.MaxPool2d(3, 1)], ["Affine", "Normalisation", "Activation"]),
        ([*NORMED, nn.ReLU(), nn.AvgPool2d(2)], ["Affine", "Normalisation", "Activation"]),
        ([*NORMED, nn.ReLU(), nn.MaxPool2d(4)], ["Affine", "Normalisation", "Activation"]),  # code for 16 places
    ],
)
def test_units_are_as_large_as_they_can_be(
    layers: list[nn.Module], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kinds(nn.Sequential(*layers), monkeypatch, ONLY_NONZEROS) == [expected]


def test_units_of_a_sum_take_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [["Affine", "Normalisation", "Sum", "Activation"], ["Affine", "Normalisation"]]
    assert kinds(Block(), monkeypatch, ONLY_NONZEROS) == expected


def test_units_leave_what_others_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(Twice(), monkeypatch, ONLY_NONZEROS) == [["Normalisation"]]


def test_units_leave_layers_with_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(nn.Sequential(*NORMED), monkeypatch, TYPICAL._replace(nonzero=1e6)) == [["Normalisation"]]
