from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DropBlock2d, StochasticDepth, stochastic_depth

from safs_ray.dropout import hold_in_evaluation, switch_off


class Block(nn.Module):
    """A branch that is dropped by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + stochastic_depth(self.norm(x), 0.5, "row", self.training)


class OwnDropout(nn.Dropout):
    """One that scales in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > self.p) if self.training else x * (1 - self.p)


class Dropping(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class DroppingLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, self.training)


class DropPath(nn.Module):
    """One that adds the residual and holds what it drops."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.5
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training and torch.rand(()) < self.drop_prob else x + self.inner(x)


def test_switch_off_names_what_drops_and_leaves_the_rest() -> None:
    net = nn.Sequential(StochasticDepth(0.5, "row"), DropBlock2d(0.1, 3), nn.Dropout(0.0), nn.Dropout(0.2), nn.ReLU())
    assert switch_off(net) == ["0", "1", "3"]
    assert [type(child).__name__ for child in net] == ["Identity", "Identity", "Dropout", "Dropout", "ReLU"]
    assert net[3].p == 0


LAYERS = [OwnDropout(0.25), Dropping(), DroppingLinear(3, 3), DropPath(), type("StochasticDepth", (DropPath,), {})()]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_dropping_layers_of_a_networks_own_compute_as_in_evaluation(layer: nn.Module) -> None:
    net, x = nn.Sequential(nn.Linear(3, 3), layer).eval(), torch.rand(8, 3)
    expected = net(x)
    assert switch_off(net) == []
    assert hold_in_evaluation(net, x) == ["1"]
    assert [torch.equal(net.train(mode)(x), expected) for mode in (True, False)] == [True, True]


def test_hold_in_evaluation_finds_whose_code_draws_and_lets_the_layers_in_it_train() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Block(), nn.RReLU(), nn.Dropout(0.5))
    state = torch.random.get_rng_state()
    assert hold_in_evaluation(net, torch.ones(2, 4)) == ["1", "2"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net[1].norm.num_batches_tracked == 0, "a copy has run"
    for module in (net, copy.deepcopy(net)):
        module.train()
        assert [child.training for child in module] == [True, False, False, True]
        assert module[1].norm.training
        x, block = torch.rand(8, 4), module[1]
        assert torch.equal(block(x), x + F.batch_norm(x, None, None, block.norm.weight, block.norm.bias, True))
        assert isinstance(block, Block)


def test_hold_in_evaluation_finds_rrelu_where_no_input_is_negative() -> None:
    assert hold_in_evaluation(nn.Sequential(nn.RReLU()), torch.ones(2, 4)) == ["0"]


def test_hold_in_evaluation_leaves_a_network_that_draws_nothing_or_fails() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    for inputs in (torch.ones(2, 4), torch.ones(2, 5)):
        assert hold_in_evaluation(net, inputs) == []
        assert type(net) is nn.Sequential
