"""Sparse execution and the engine on signals, against the masked dense network in double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.config import Costs
from safs_ray.engine.module import EngineModule
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse import plan
from safs_ray.sparse.fused import FusedCohort
from safs_ray.sparse.graph import Affine, UnsupportedError, read
from safs_ray.sparse.program import is_chain
from tests.engine.networks import assert_exact
from tests.engine.networks import drawn as drawn_in_single_precision
from tests.sparse.test_module import (
    ALL_SPARSE,
    CLASSES,
    DENSE_WHERE_POSSIBLE,
    Residual,
    architecture,
    assert_equal_steps,
    network_drawn,
)

CPU = torch.device("cpu")


@st.composite
def signal_networks(draw: st.DrawFn) -> tuple[tuple[int, ...], Callable[[], nn.Module]]:
    """The shape (C, length) of signals, and a function that builds a network for them."""
    channels, length = draw(st.integers(1, 3)), draw(st.integers(5, 12))
    layers: list[nn.Module] = []
    shape = torch.zeros(2, channels, length)
    for _ in range(draw(st.integers(1, 3))):
        layer = _layer(draw, shape.shape[1], shape.shape[2])
        layers.append(layer)
        shape = layer.eval()(shape)
    hidden = draw(st.integers(1, 5))
    end = [nn.Flatten(), nn.Linear(shape.shape[1] * shape.shape[2], hidden), nn.Tanh(), nn.Linear(hidden, CLASSES)]
    return (channels, length), lambda: copy.deepcopy(nn.Sequential(*layers, *end))


def _layer(draw: st.DrawFn, channels: int, length: int) -> nn.Module:
    kind = draw(st.sampled_from(["conv", "conv", "norm", "residual", *(["max", "average", "mean"] * (length > 2))]))
    if kind == "conv":
        groups, kernel = draw(st.sampled_from([1, channels])), draw(st.integers(1, min(4, length)))
        dilation = draw(st.integers(1, 2)) if length >= 2 * kernel - 1 else 1
        padding, stride = draw(st.sampled_from([*range(kernel), "same", "valid"])), draw(st.integers(1, 3))
        stride = 1 if padding == "same" else stride
        out = groups * draw(st.integers(1, 3))
        conv = nn.Conv1d(channels, out, kernel, stride, padding, dilation, groups, draw(st.booleans()))
        return nn.Sequential(conv, draw(st.sampled_from([nn.ReLU(), nn.Identity()])))
    if kind == "norm":
        return nn.BatchNorm1d(channels)
    if kind == "residual":
        return Residual(nn.Conv1d(channels, channels, 3, padding=1), nn.Identity())
    if kind == "max":
        return nn.MaxPool1d(draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1)), ceil_mode=True)
    if kind == "average":
        return nn.AvgPool1d(2, draw(st.integers(1, 2)), draw(st.integers(0, 1)), draw(st.booleans()))
    return nn.AdaptiveAvgPool1d(draw(st.integers(1, 3)))


def specified(name: str, shape: tuple[int, ...]) -> Specification:
    return Specification(name, shape, CLASSES, (0.4,) * shape[0], (0.3,) * shape[0], kind="float32")


def inputs_and_labels(specification: Specification, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return specification.drawn(count, draws), torch.randint(0, CLASSES, (count,), generator=draws)


@given(drawn=signal_networks(), kept=st.floats(0.05, 1), count=st.sampled_from([2, 7, 33]), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize(
    ("most_connections", "costs"),
    [(10**9, ALL_SPARSE), (-1, ALL_SPARSE), (-1, DENSE_WHERE_POSSIBLE)],
    ids=["neurons", "channels", "mixed"],
)
def test_a_network_of_signals_equals_the_masked_dense_network(
    most_connections: int,
    costs: Costs,
    drawn: tuple[tuple[int, ...], Callable[[], nn.Module]],
    kept: float,
    count: int,
    seed: int,
) -> None:
    shape, build = drawn
    with architecture(build) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_CONNECTIONS", most_connections)
        kept = max(kept, 0.7) if costs is DENSE_WHERE_POSSIBLE else kept
        network = network_drawn(specified(name, shape), kept, seed)
        assert_equal_steps(network, *inputs_and_labels(network.specification, count, seed), 1e-10, costs)
        made = plan.make(network, network.build())
        if is_chain(made):
            inputs, _ = inputs_and_labels(network.specification, count, seed)
            logits = network.build().double()(network.specification.normalised(inputs).double())
            torch.testing.assert_close(FusedCohort(made, [network])(inputs)[0], logits, rtol=1e-10, atol=1e-10)


@given(drawn=signal_networks(), kept=st.floats(0.3, 1), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_engine_computes_a_network_of_signals(
    drawn: tuple[tuple[int, ...], Callable[[], nn.Module]], kept: float, seed: int
) -> None:
    shape, build = drawn
    with architecture(build) as name:
        network = drawn_in_single_precision(Network.initial(specified(name, shape), seed), 1 - kept, seed)
        module, (inputs, _) = EngineModule(network), inputs_and_labels(network.specification, 3, seed)
        assert module.foreign == ()
        assert_exact(module(inputs), network, inputs)


def test_the_engine_gives_torch_signals_in_their_shape() -> None:
    layers = [nn.Conv1d(2, 4, 3), nn.LayerNorm(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES)]
    with architecture(lambda: copy.deepcopy(nn.Sequential(*layers))) as name:
        network = drawn_in_single_precision(Network.initial(specified(name, (2, 8)), 0), 0.5)
        module, (inputs, _) = EngineModule(network), inputs_and_labels(network.specification, 3)
        assert len(module.foreign) == 1
        assert_exact(module(inputs), network, inputs)


class Means(nn.Module):
    """The mean of each signal, or what looks like it."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.conv, self.act, self.last, self.dimension = nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Linear(4, 3), dimension

    def forward(self, signals: Tensor) -> Tensor:
        return self.last(self.act(self.conv(signals)).mean(self.dimension))


@pytest.mark.parametrize(("dimension", "foreign"), [(2, 0), (-1, 0), (1, 1)])
def test_the_engine_takes_the_mean_of_signals(dimension: int, foreign: int) -> None:
    with architecture(lambda: Means(dimension)) as name:  # 4 channels of 4 pixels
        network = drawn_in_single_precision(Network.initial(specified(name, (2, 8)), 0), 0.5)
        module, (inputs, _) = EngineModule(network), inputs_and_labels(network.specification, 3)
        assert len(module.foreign) == foreign
        assert_exact(module(inputs), network, inputs)


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3)], ids=lambda each: type(each))
def test_a_layer_of_images_that_takes_signals_for_one_image_is_left_to_torch(layer: nn.Module) -> None:
    module = torch.fx.symbolic_trace(nn.Sequential(layer, nn.Flatten()))
    with pytest.raises(UnsupportedError):
        read(module, torch.zeros(1, 8, 8))


def test_a_convolution_over_signals_is_one_over_planes_of_one_row() -> None:
    module = torch.fx.symbolic_trace(nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Flatten()))
    steps = read(module, torch.zeros(2, 2, 8))
    operation = steps[1].operation
    assert isinstance(operation, Affine)
    assert operation.window == ((1, 3), (1, 2), (0, 1), (1, 1))
    assert (steps[1].channels, steps[1].height, steps[1].width) == (3, 1, 4)
    assert operation.table.tolist() == [[-1, 0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7]]
