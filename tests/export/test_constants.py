from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from safs_ray.export.constants import fold_constants
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.sparse import graph

SPECIFICATION = Specification("own", (1, 2, 2), 2, (0.0,), (1.0,))


def folded(
    monkeypatch: pytest.MonkeyPatch, module: nn.Module, operators: list[str], state: Mapping[str, list[object]]
) -> Network:
    """The network of a module with these weights, whose masks are where they are not zero."""
    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: module))
    network = Network.of(SPECIFICATION, module).assign(operators)
    given = {name: torch.tensor(values, dtype=torch.float32) for name, values in state.items()}
    network = replace(network, state={**network.state, **given})
    network = network.masked({name: weight != 0 for name, weight in network.prunable().items()})
    return fold_constants(network, graph.read(network.build(), SPECIFICATION.example()))


def test_a_neuron_that_sees_no_image_becomes_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    state: dict[str, list[object]] = {
        "1.weight": [[0, 0, 0, 0], [0, 7, 0, 0]],
        "1.bias": [3, 1],
        "3.weight": [[2, 0], [5, 4]],  # the first reads the constant relu(3) alone, the second both
        "3.bias": [-1, 1],
        "5.weight": [[1, 1], [2, 0]],
        "5.bias": [0, 10],
    }
    network = folded(monkeypatch, module, ["relu", "symlog"], state)
    assert network.state["3.weight"].tolist() == [[0, 0], [0, 4]]
    assert network.state["3.bias"].tolist() == [-1 + 2 * 3, 1 + 5 * 3]
    level = torch.log1p(torch.tensor(5.0)).item()  # symlog(2 * 3 - 1)
    assert network.state["5.weight"].tolist() == [[0, 1], [0, 0]]
    assert network.state["5.bias"].tolist() == pytest.approx([level, 10 + 2 * level])
    assert network.masks["5.weight"].tolist() == [[False, True], [False, False]]
    assert network.state["1.weight"].tolist() == state["1.weight"]


@pytest.mark.parametrize(("padding", "bias", "left"), [(0, True, 0), (1, True, 1), (0, False, 1)])
def test_a_layer_that_sees_a_border_or_has_no_bias_keeps_its_weights(
    monkeypatch: pytest.MonkeyPatch, padding: int, bias: bool, left: int
) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1, padding=padding, bias=bias), nn.Flatten(), nn.LazyLinear(2)
    )
    module(SPECIFICATION.example())
    state: dict[str, list[object]] = {"0.weight": [[[[0]]]], "0.bias": [2], "2.weight": [[[[3]]]]}
    state |= {"2.bias": [1]} if bias else {}
    network = folded(monkeypatch, module, ["relu"], state)
    assert network.masks["2.weight"].sum() == left
    if bias:
        assert network.state["2.bias"].item() == (1 if left else 7)
    # Without a border the constant goes on to the last layer, which has a bias, in all pixels.
    assert network.masks["4.weight"].any() == bool(padding)


class Shifted(nn.Module):
    """A constant through batch normalisation, poolings and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU()
        self.out = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x)))
        x = nn.functional.max_pool2d(x, 2, 1, 1) + nn.functional.avg_pool2d(x, 2, 1, 1, count_include_pad=False)
        return self.out(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_constants_go_through_all_steps_of_one_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, list[object]] = {
        "first.weight": [[[[0]]], [[[1]]]],
        "first.bias": [6, 0],
        "norm.running_mean": [2, 0],
        "norm.running_var": [4 - 1e-5, 1],
        "norm.weight": [3, 1],
        "norm.bias": [1, 0],
        "out.weight": [[5, 0], [0, 1]],
        "out.bias": [1, 2],
    }
    network = folded(monkeypatch, Shifted(), ["relu"], state)
    assert network.state["out.bias"].tolist() == pytest.approx([1 + 5 * 2 * ((6 - 2) / 2 * 3 + 1), 2])
    assert network.masks["out.weight"].tolist() == [[False, False], [False, True]]
