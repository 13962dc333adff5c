"""The slim and the cut network against the one that was trained, on random masks, scales and operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.export.slim import DeployedNetwork, deploy, slim
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.randomness import generator

SPECIFICATION = Specification("own", (2, 8, 8), 3, (0.4, 0.6), (0.2, 0.3))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.one, self.two = nn.Conv2d(5, 6, 3), nn.Conv2d(6, 5, 1)
        self.short, self.last = nn.Conv2d(5, 5, 3), nn.Linear(45, 3)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.act(self.norm(self.stem(x))), 2, padding=1)
        x = self.two(self.act(self.one(x))) + self.short(x)
        return self.last(self.act(x).reshape(x.shape[0], 45))  # type: ignore[no-any-return]


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(128, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)
    )


OPERATORS = ("relu", "linear", "tanh", "cos", "softplus", "srs", "symlog")


@settings(max_examples=30, deadline=None)
@given(
    build=st.sampled_from([Residual, lenet, perceptron, depthwise]),
    seed=st.integers(0, 2**32),
    density=st.sampled_from([0.03, 0.15, 0.5, 1.0]),
    operators=st.lists(st.sampled_from(OPERATORS), min_size=4, max_size=4),
    signs=st.booleans(),
)
@example(build=Residual, seed=0, density=0.0, operators=["cos"] * 4, signs=True)
def test_computes_the_same(
    build: Callable[[], nn.Module], seed: int, density: float, operators: list[str], signs: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "own", Architecture(lambda _: build()))
        network = random_network(seed, density, operators, signs)
        smaller, _ = slim(network)
        images = torch.randint(0, 256, (8, 2, 8, 8), generator=generator(seed, "images"), dtype=torch.uint8)
        with torch.no_grad():
            expected = DeployedNetwork(network.build(), SPECIFICATION)(images)
            found = DeployedNetwork(smaller.build(), SPECIFICATION)(images)
            cut = deploy(smaller)[0](images)
    close = {"rtol": 1e-4, "atol": 1e-4 * max(1.0, expected.abs().max().item())}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(cut, expected, **close)
    assert smaller.nonzero_weights <= network.nonzero_weights


def random_network(seed: int, density: float, operators: list[str], signs: bool) -> Network:
    """One whose weights, biases, statistics and scales, of both signs or positive, are drawn from the seed."""
    draws = generator(seed, "network")
    network = Network.initial(SPECIFICATION, seed)
    network = network.assign(operators[: len(network.sites)])
    state = dict(network.state)
    for name, tensor in state.items():
        scale = name.endswith((".alpha", ".beta"))
        if scale or name.endswith(("bias", "norm.weight", "2.weight", "mean", "var")):
            positive = torch.rand(tensor.shape, generator=draws) + 0.5
            free = not name.endswith("var") and (signs or not scale)
            sign = torch.randint(0, 2, tensor.shape, generator=draws) * 2 - 1 if free else 1
            state[name] = positive * sign
    masks = {name: torch.rand(weight.shape, generator=draws) < density for name, weight in network.prunable().items()}
    return replace(network, state=state).masked(masks)


def test_says_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: perceptron()))
    network = Network.initial(SPECIFICATION, 0)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    masks["6.weight"][:, :2] = False
    scaled = {**network.state, "3.beta": torch.tensor(2.0)}
    smaller, notes = slim(replace(network, state=scaled).masked(masks))
    assert notes == (
        "folded all scales into the layers beside them",
        "left out 18 of 1,242 weights, on no path from the images to the output",
    )
    assert deploy(smaller)[1] == "cut the channels of 4 from 8 to 6: 98.1 % of the multiply-adds are left"


def test_what_cannot_be_read_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: perceptron()))
    network = Network.initial(SPECIFICATION, 0).grouped(2)
    smaller, notes = slim(network)
    assert smaller is network
    reason = "3 is a ChannelGroups, which no step of a sparse network does"
    assert notes == (f"nothing was folded or left out: {reason}",)
    module, note = deploy(network)
    assert note == ""
    images = torch.zeros(2, 2, 8, 8, dtype=torch.uint8)
    assert torch.equal(module(images), DeployedNetwork(network.build(), SPECIFICATION)(images))


def test_layers_that_share_their_weights_are_not_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    def tied(_: Specification) -> nn.Module:
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3)
        )
        module[3].weight = module[1].weight
        return module

    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(tied))
    network = Network.initial(SPECIFICATION, 0)
    smaller, notes = slim(replace(network, state={**network.state, "2.beta": torch.tensor(2.0)}))
    assert smaller.state["2.beta"] == 2
    assert notes == ("nothing was folded or left out: 1.weight and 3.weight are one tensor",)


def test_scales_of_one_are_not_multiplied_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: perceptron()))
    module, _ = deploy(Network.initial(SPECIFICATION, 0))
    program = torch.export.export(module, (torch.zeros(2, 2, 8, 8, dtype=torch.uint8),))
    assert "mul" not in program.graph_module.code
