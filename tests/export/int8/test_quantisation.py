"""Networks in 8-bit integers, as they are defined, against the masked dense network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from safs_ray.engine.module import read
from safs_ray.engine.passes import Weigh, planes_of
from safs_ray.export.int8 import reference
from safs_ray.export.int8.integers import Grid, IntegerProgram, Levelling, Sums
from safs_ray.export.int8.quantisation import quantised
from safs_ray.export.int8.ranges import Range, chosen, holding
from safs_ray.export.int8.weights import whole
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.operators import OPERATORS
from safs_ray.sparse.graph import UnsupportedError
from tests.engine.networks import drawn, exact, images_of, network_of
from tests.engine.test_module import Block, Dense, Excited, Mixed, lazy


def program_of(network: Network, images: int = 48) -> IntegerProgram:
    return quantised(read(network)[1], network.specification, images_of(network, images))


def test_levelling_rounds_and_ends_at_the_first_and_the_last_level() -> None:
    sums = np.array([-9, -1, 0, 1, 2, 3, 509, 510, 9999])
    assert Levelling(1)(sums, np.array(1)).tolist() == [0, 0, 0, 1, 1, 2, 255, 255, 255]
    assert Levelling(2, first=7)(sums, np.array(2)).tolist() == [3, 7, 7, 8, 8, 9, 255, 255, 255]


def test_ranges_hold_whole_steps_from_0() -> None:
    assert Range.between(-1, 254) == Range(-1, 1)
    assert Range.between(-1, 254).zero == -127
    assert Range.between(3.0, 3.0) == Range(0, 3 / 255)
    assert Range.between(0, 0) == Range(0, 1)
    assert holding(np.array([5.0, 510.0])) == Range(0, 2)


def test_ranges_leave_out_what_a_function_makes_equal_and_what_is_rare() -> None:
    numbers = np.linspace(-4, 2, 1000)
    assert chosen(numbers, lambda x: np.maximum(x, 0)).first == 0
    assert chosen(numbers, lambda x: np.maximum(x, 0)).numbers[-1] == pytest.approx(2)
    often = np.sin(np.arange(1e6))
    assert chosen(np.append(often, 6.0), lambda x: x).numbers[-1] < 4
    assert chosen(np.append(often[:10000], 6.0), lambda x: x).numbers[-1] > 5


def test_whole_weights_are_several_terms_where_8_bits_do_not_hold_them() -> None:
    weights = np.array([1.0, 0.01, -0.02, 0.015, 0.3])
    sums = Weigh(0, np.array([0, 4, 5]), planes_of(0, 5), weights, np.array([0.5, 0.0]), [])
    found, units = whole(sums, weights, np.full(5, 3.0), sums.bias)
    assert np.abs(found.weights).max() <= 127
    assert found.weights.tolist()[-1] == 127
    terms = np.diff(found.starts)
    assert terms.tolist() == [len(found.weights) - 1, 1]
    summed = np.bincount(found.terms.channel, found.weights, 5) * np.repeat(units, [4, 1])
    assert np.abs(summed - weights).max() <= units.max() / 2
    assert 10 <= terms[0] <= 16  # 1 / (0.0175 / 16) takes eight
    zeros = 3 * np.add.reduceat(found.weights, found.starts[:-1])
    assert found.bias.tolist() == np.rint(sums.bias / units - zeros).tolist()


def test_reference_has_the_exact_logits_of_whole_numbers() -> None:
    """Pixels as they are, weights of 8 bits."""
    module = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 2))
    ARCHITECTURES["under test"] = Architecture(lambda _: module)
    network = Network.of(Specification("under test", (1, 2, 2), 2, (0.0,), (1 / 255,)), module)
    weight, bias = torch.tensor([[127.0, -3, 64, 0], [0, 0, 5, 127]]), torch.tensor([7.0, -9])
    network = replace(network, state={**network.state, "2.weight": weight, "2.bias": bias})
    every = torch.arange(256, dtype=torch.uint8).reshape(64, 1, 2, 2)
    program = quantised(read(network)[1], network.specification, every)
    assert program.unit == pytest.approx(1)
    images = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4], [255, 0, 255, 255]], dtype=torch.uint8).reshape(3, 1, 2, 2)
    expected = images.flatten(1).long() @ weight.long().T + bias.long()
    assert reference.run(program, images).tolist() == expected.tolist()


@pytest.mark.parametrize("kind", [Block, Dense, Excited, Mixed])
def test_reference_is_near_the_network(kind: type[nn.Module]) -> None:
    network = network_of(kind)
    assert error_of(network) < 0.06


def test_reference_knows_the_scales_of_the_channels_of_images() -> None:
    assert error_of(network_of(lazy(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(3, 6, 1)))) < 0.06
    assert error_of(network_of(lazy(nn.MaxPool2d(2, stride=1), nn.Conv2d(3, 6, 3, padding=1)))) < 0.06


NAMES = [*OPERATORS, "prelu", "leaky_relu(0.2)"]


@pytest.mark.parametrize("first", range(0, len(NAMES), 3))
def test_reference_knows_every_operator(first: int) -> None:
    """Three at a time."""
    assert error_of(drawn(network_of(Mixed).assign((NAMES + NAMES)[first : first + 3]), 0.5)) < 0.08


def error_of(network: Network) -> float:
    """Of logits, of those by which it was quantised, as a fraction of how they vary."""
    program, images = program_of(network), images_of(network, 48)
    expected = exact(network, images)
    difference = reference.run(program, images) * program.unit - expected
    assert difference.mean(0).abs().max() < 0.02 * expected.std()
    return float(difference.square().mean().sqrt() / (expected - expected.mean(0)).square().mean().sqrt())


def test_pixels_stay_as_they_are_but_where_channels_have_other_means() -> None:
    network = network_of(lazy(nn.Conv2d(3, 4, 3, padding=1)))
    read = program_of(network).passes[0]
    assert (read.factor, len(set(read.summands))) == (round(254 / (255 * 1.2) * 2**16), 3)  # means of 0.4, 0.5 and 0.6
    network = network_of(lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(64, 4)), channels=1)
    read = program_of(network).passes[0]
    assert (read.factor, read.summands) == (2**16, [0])


def test_a_table_stands_only_where_levels_are_not_the_numbers() -> None:
    network = network_of(Mixed)
    sums = [one for one in program_of(network).passes if isinstance(one, Sums)]
    assert [part.table is None for one in sums for part in one.parts] == [True] * 3
    network = drawn(network.assign(["tanh"] * 3), 0.5)
    sums = [one for one in program_of(network).passes if isinstance(one, Sums)]
    assert [part.table is None for one in sums for part in one.parts] == [False] * 3


def test_grids_of_values_are_shared_by_channels() -> None:
    grid = Grid.shared(0.5, -3, 2)
    assert (grid.scale.tolist(), grid.zero.tolist(), grid.around) == ([0.5, 0.5], [-3, -3], -3)


def test_values_that_are_not_finite_are_refused() -> None:
    network = network_of(Mixed)
    network.state["one.bias"][:] = torch.inf
    with pytest.raises(UnsupportedError, match=r"^its values are not finite"):
        program_of(network)
