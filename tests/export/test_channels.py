from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.config import PruningSection
from safs_ray.export.channels import drop_dead
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.masks import prunable_weights
from safs_ray.pruning.structure import select
from safs_ray.randomness import generator
from safs_ray.sparse import graph
from safs_ray.sparse.compact import cut
from safs_ray.sparse.graph import UnsupportedError
from tests.engine.drawn import Drawn
from tests.engine.networks import exact, images_of, network_of

SPECIFICATION = Specification("own", (2, 6, 6), 3, (0.0, 0.0), (1.0, 1.0))


def pruned(monkeypatch: pytest.MonkeyPatch, module: nn.Module, dead: dict[str, list[int]]) -> Network:
    """The network of a module in which some inputs of some layers are not read."""
    monkeypatch.setitem(ARCHITECTURES, "own", Architecture(lambda _: module))
    network = Network.of(SPECIFICATION, module)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    for owner, inputs in dead.items():
        masks[f"{owner}.weight"][:, inputs] = False
    draws = generator(0, "state")
    noisy = {
        name: torch.rand(tensor.shape, generator=draws) + 0.5 if tensor.dim() == 1 else tensor
        for name, tensor in network.state.items()
    }
    return replace(network, state=noisy).masked(masks)


def dropped(network: Network) -> Network:
    return drop_dead(network, graph.read(network.build(), SPECIFICATION.example()))


def logits(module: nn.Module) -> Tensor:
    images = torch.rand(5, 2, 6, 6, generator=generator(0, "images"))
    with torch.no_grad():
        return module.eval()(images)  # type: ignore[no-any-return]


class Convolutional(nn.Module):
    """Its view names the number of neurons, of which fewer will be left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.hidden, self.last = nn.Linear(4 * 9, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        return self.last(torch.relu(self.hidden(x.view(-1, 4 * 9))))  # type: ignore[no-any-return]


def test_what_nothing_reads_is_zero_and_then_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = pruned(monkeypatch, Convolutional(), {"hidden": [*range(9), *range(18, 27)], "last": [1, 4]})
    smaller = dropped(network)
    assert [smaller.masks[f"{owner}.weight"].sum().item() for owner in ("first", "hidden", "last")] == [36, 54, 9]
    for name in ("first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        assert (smaller.state[name] != 0).tolist() == [False, True, False, True]
    assert torch.equal(logits(smaller.build()), logits(network.build()))

    module, _, sizes, share = cut(smaller)
    assert sizes == {"first": (4, 2), "hidden": (5, 3)}
    assert share == (36 * 2 * 2 * 9 + 18 * 3 + 3 * 3) / (36 * 4 * 2 * 9 + 36 * 5 + 5 * 3)
    assert isinstance(module.hidden, nn.Linear)
    assert (module.hidden.in_features, module.hidden.out_features) == (18, 3)
    assert sum(parameter.numel() for parameter in module.parameters()) == 2 * 18 + 2 + 4 + 54 + 3 + 9 + 3 + 2 * 2
    torch.testing.assert_close(logits(module), logits(network.build()))


def test_signals_lose_what_nothing_reads_as_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 3, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    monkeypatch.setitem(ARCHITECTURES, "signals", Architecture(lambda _: module))
    specification = Specification("signals", (2, 6), 3, (0.0, 0.0), (1.0, 1.0), kind="float32")
    network = Network.of(specification, module)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    masks["3.weight"][:, [0, 2]] = False
    network = network.masked(masks)
    smaller, _, sizes, _ = cut(drop_dead(network, graph.read(network.build(), specification.example())))
    assert sizes == {"0": (4, 2)}
    assert smaller.get_submodule("3").in_channels == 2
    signals = torch.rand(5, 2, 6, generator=generator(0, "signals"))
    with torch.no_grad():
        torch.testing.assert_close(smaller.eval()(signals), network.build().eval()(signals))


class Residual(nn.Module):
    """The pooling is read less than the sum before it; the shortcut is pooled itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.last, self.act = nn.Linear(4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        x = self.branch(x) + nn.functional.avg_pool2d(x, 2)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def test_both_sides_of_a_sum_keep_the_same_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    network = pruned(monkeypatch, Residual(), {"branch": [0, 1], "last": [1, 3]})
    module, _, sizes, _ = cut(dropped(network))
    assert sizes == {"first": (4, 3), "branch": (4, 3)}  # 0 and 2 are read from the sum, 3 by the branch
    torch.testing.assert_close(logits(module), logits(network.build()))


def test_a_layer_without_inputs_keeps_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = pruned(monkeypatch, Convolutional(), {"hidden": list(range(36))})
    module, _, sizes, _ = cut(dropped(network))
    assert sizes == {"first": (4, 1)}
    torch.testing.assert_close(logits(module), logits(network.build()))


def test_channels_of_the_images_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    network = pruned(monkeypatch, Convolutional(), {"first": [0]})
    module, _, sizes, _ = cut(dropped(network))
    assert sizes == {}
    assert torch.equal(logits(module), logits(network.build()))


@pytest.mark.parametrize(
    "module",
    [
        lambda: nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)),
        lambda: nn.Sequential(nn.Flatten(), Doubled(), nn.Linear(72, 3)),
    ],
    ids=["depthwise on the images", "a layer applied twice"],
)
def test_channels_that_are_tied_to_what_stays_stay(
    monkeypatch: pytest.MonkeyPatch, module: Callable[[], nn.Sequential]
) -> None:
    built = module()
    last, inputs = str(len(built) - 1), built[-1].in_features
    network = pruned(monkeypatch, built, {last: list(range(inputs // 4))})
    smaller, _, sizes, _ = cut(network)
    assert sizes == {}
    assert torch.equal(logits(smaller), logits(network.build()))


def test_a_network_without_a_graph_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Untraced(Convolutional):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() == x.sum() else x

    with pytest.raises(UnsupportedError, match=r"torch\.fx has no graph of it"):
        cut(pruned(monkeypatch, Untraced(), {}))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    sparsity=st.sampled_from([0.3, 0.5, 0.9]),
    allocation=st.sampled_from(["layer", "global"]),
)
def test_any_network_without_its_pruned_channels_computes_the_same(seed: int, sparsity: float, allocation: str) -> None:
    network = network_of(lambda: Drawn(seed), size=Drawn(seed).size, sparsity=0, seed=seed)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    section = PruningSection(structure="filters", sparsity=sparsity, allocation=allocation)
    sparse = network.masked(select(scores, sparsity, section, {}, network))
    module, _, sizes, _ = cut(sparse)
    assert sizes, "there is something to cut"
    left = sum(weight.numel() for weight in prunable_weights(module).values())
    assert left <= sparse.nonzero_weights
    images = sparse.specification.normalised(images_of(sparse, 3, seed)).double()
    with torch.no_grad():
        torch.testing.assert_close(module.double()(images), exact(sparse, images_of(sparse, 3, seed)))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(72, 72), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.act(self.layer(x)))  # type: ignore[no-any-return]
