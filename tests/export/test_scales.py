from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from safs_ray.export.scales import fold_scales
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.sparse import graph

Scales = dict[str, tuple[float, float]]
"""Alpha and beta by site."""
Fold = Callable[[nn.Module, list[str], Scales], tuple[Scales, dict[str, float]]]


@pytest.fixture
def fold(monkeypatch: pytest.MonkeyPatch) -> Fold:
    """Fold the scales of a module whose weights all are 1; gives the scales and each layer's weight afterwards."""

    def folded(module: nn.Module, operators: list[str], scales: Scales) -> tuple[Scales, dict[str, float]]:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(1)
        monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: module))
        network = Network.of(Specification("own", (1, 4, 4), 3, (0.0,), (1.0,)), module).assign(operators)
        given = {f"{site}.alpha": torch.tensor(alpha) for site, (alpha, _) in scales.items()}
        given |= {f"{site}.beta": torch.tensor(beta) for site, (_, beta) in scales.items()}
        network = replace(network, state={**network.state, **given})
        steps = graph.read(network.build(), network.specification.example())
        state = fold_scales(network, steps).state
        found = {site: (state[f"{site}.alpha"].item(), state[f"{site}.beta"].item()) for site in network.sites}
        return found, {
            name.removesuffix(".weight"): tensor.flatten()[0].item()
            for name, tensor in state.items()
            if name.endswith(".weight")
        }

    return folded


class Named(nn.Sequential):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def chain(between: nn.Module | None = None) -> nn.Module:
    return Named(
        conv=nn.Conv2d(1, 2, 1), act=nn.ReLU(), pool=between or nn.Identity(), flat=nn.Flatten(), out=nn.LazyLinear(3)
    )


def made(module: nn.Module) -> nn.Module:
    module(torch.zeros(2, 1, 4, 4))
    return module


def test_beta_goes_into_the_layer_before_and_alpha_into_the_one_behind(fold: Fold) -> None:
    scales, weights = fold(made(chain()), ["tanh"], {"act": (2.0, -3.0)})
    assert scales == {"act": (1, 1)}
    assert weights == {"conv": -3, "out": 2}


def test_both_scales_of_a_homogeneous_operator_go_where_they_can(fold: Fold) -> None:
    assert fold(made(chain()), ["relu"], {"act": (2.0, 3.0)}) == ({"act": (1, 1)}, {"conv": 1, "out": 6})
    assert fold(made(chain()), ["linear"], {"act": (-2.0, 3.0)}) == ({"act": (1, 1)}, {"conv": 1, "out": -6})
    # relu(-3 x) is not 3 relu(x); the layer before takes the sign.
    assert fold(made(chain()), ["relu"], {"act": (2.0, -3.0)}) == ({"act": (1, 1)}, {"conv": -3, "out": 2})


def test_a_negative_scale_does_not_pass_the_largest_of_a_window(fold: Fold) -> None:
    scales, weights = fold(made(chain(nn.MaxPool2d(2))), ["tanh"], {"act": (-2.0, 3.0)})
    assert scales == {"act": (-2, 1)}
    assert weights == {"conv": 3, "out": 1}
    assert fold(made(chain(nn.MaxPool2d(2))), ["tanh"], {"act": (2.0, 3.0)})[1]["out"] == 2
    assert fold(made(chain(nn.AvgPool2d(2))), ["tanh"], {"act": (-2.0, 3.0)})[1]["out"] == -2


def test_batch_normalisation_takes_beta(fold: Fold) -> None:
    module = Named(
        conv=nn.Conv2d(1, 2, 1), norm=nn.BatchNorm2d(2), act=nn.ReLU(), flat=nn.Flatten(), out=nn.Linear(32, 3)
    )
    scales, weights = fold(module, ["tanh"], {"act": (2.0, 3.0)})
    assert scales == {"act": (1, 1)}
    assert weights == {"conv": 1, "norm": 3, "out": 2}


class Residual(nn.Module):
    """The first activation is read by a layer and by the sum; the second takes the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.out = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Linear(32, 3)
        self.act, self.last = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        return self.out(self.last(x + self.branch(x)).flatten(1))


def test_what_a_sum_reads_keeps_its_scale_unless_the_layer_before_can_take_it(fold: Fold) -> None:
    scales, weights = fold(Residual(), ["tanh", "tanh"], {"act": (2.0, 3.0), "last": (4.0, 5.0)})
    assert scales == {"act": (2, 1), "last": (1, 5)}
    assert weights == {"first": 3, "branch": 1, "out": 4}
    scales, weights = fold(Residual(), ["relu", "relu"], {"act": (2.0, 3.0), "last": (4.0, 5.0)})
    assert scales == {"act": (1, 1), "last": (1, 1)}
    assert weights == {"first": 6, "branch": 1, "out": 20}


class Around(nn.Module):
    """The sum reads the layer before the activation too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out, self.act = nn.Conv2d(1, 2, 1), nn.Linear(32, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.out((self.act(x) + x).flatten(1))


def test_a_layer_that_a_sum_reads_too_keeps_its_weights(fold: Fold) -> None:
    assert fold(Around(), ["tanh"], {"act": (2.0, 3.0)}) == ({"act": (2, 3)}, {"first": 1, "out": 1})
    assert fold(Around(), ["relu"], {"act": (2.0, 3.0)}) == ({"act": (6, 1)}, {"first": 1, "out": 1})


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out, self.act, self.last = nn.Linear(16, 16), nn.Linear(16, 3), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.layer(self.act(self.layer(x.flatten(1))))))


def test_a_layer_that_is_applied_twice_is_left_alone(fold: Fold) -> None:
    scales, weights = fold(Twice(), ["tanh", "tanh"], {"act": (2.0, 3.0), "last": (4.0, 5.0)})
    assert scales == {"act": (2, 3), "last": (1, 5)}
    assert weights == {"layer": 1, "out": 4}
