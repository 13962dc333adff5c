from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.pruning.coupling import Coupling, coupling_of


class Net(nn.Module):
    """Two convolutions of four channels each, a linear layer, and whatever a test does between them."""

    def __init__(self, between: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.between = between
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self, x)


def found(between: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> Coupling:
    return coupling_of(fx.symbolic_trace(Net(between, **layers)), torch.zeros(2, 2, 6, 6))


def sets(coupling: Coupling, name: str) -> list[int]:
    return coupling.outputs[f"{name}.weight"].tolist()


def reads(coupling: Coupling, name: str) -> list[int]:
    return coupling.inputs[f"{name}.weight"].tolist()


def head(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def test_channels_of_a_chain_go_alone() -> None:
    coupling = found(lambda net, x: net.last(head(F.relu(net.b(net.norm(net.a(x)))))),
                     norm=nn.BatchNorm2d(4), last=nn.Linear(4, 3))  # fmt: skip
    assert reads(coupling, "a") == [0, 0], "the images stay"
    assert sets(coupling, "a") == reads(coupling, "b") == coupling.normalisations["norm"].tolist() == [1, 2, 3, 4]
    assert sets(coupling, "b") == reads(coupling, "last") == [5, 6, 7, 8]
    assert sets(coupling, "last") == [0, 0, 0], "the outputs stay"
    assert [layer.tolist() for layer in coupling.layers] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert coupling.places == {"a.weight": 36, "b.weight": 36, "last.weight": 1}
    assert coupling.sets == 9


@pytest.mark.parametrize(
    "tie",
    [
        lambda x, y: x + y,
        lambda x, y: x.add_(y),
        lambda x, y: torch.maximum(x, y),
        lambda x, y: x * torch.sigmoid(F.adaptive_avg_pool2d(y, 1)),
        lambda x, y: x * y.mean((2, 3), keepdim=True),
        lambda x, y: x * y.mean((-1, -2), keepdim=True),
        lambda x, y: torch.div(x, y),
    ],
    ids=["sum", "sum in place", "maximum", "gate", "mean", "mean from behind", "quotient"],
)
def test_channels_of_what_comes_together_go_together(tie: Callable[[Tensor, Tensor], Tensor]) -> None:
    def between(net: Net, x: Tensor) -> Tensor:
        first = net.a(x)
        return net.last(head(tie(first, net.b(F.relu(first)))))  # type: ignore[no-any-return]

    coupling = found(between, last=nn.Linear(4, 3))
    assert sets(coupling, "a") == sets(coupling, "b") == reads(coupling, "last") == [1, 2, 3, 4]
    assert [layer.tolist() for layer in coupling.layers] == [[1, 2, 3, 4]]


@pytest.mark.parametrize("size", [lambda x: (x.size(0), -1), lambda x: (x.shape[0], 32), lambda _: (-1, 32)])
def test_channels_lie_side_by_side_in_a_concatenation_and_behind_each_other_when_flattened(
    size: Callable[[Tensor], tuple[int, int]],
) -> None:
    def between(net: Net, x: Tensor) -> Tensor:
        first = net.a(x)
        joined = torch.cat([net.b(first), first], 1)
        return net.last(F.max_pool2d(joined, 3).view(*size(x)))  # type: ignore[no-any-return]

    coupling = found(between, last=nn.Linear(32, 3))
    assert reads(coupling, "last") == [each for each in (5, 6, 7, 8, 1, 2, 3, 4) for _ in range(4)]


def test_channels_of_a_depthwise_convolution_go_with_those_that_it_reads() -> None:
    coupling = found(lambda net, x: net.last(head(net.deep(net.a(x)))),
                     deep=nn.Conv2d(4, 8, 3, groups=4), last=nn.Linear(8, 3))  # fmt: skip
    assert sets(coupling, "deep") == reads(coupling, "last") == [1, 1, 2, 2, 3, 3, 4, 4]
    assert reads(coupling, "deep") == [0]
    assert [layer.tolist() for layer in coupling.layers] == [[1, 2, 3, 4]]


def test_every_group_of_a_grouped_convolution_loses_the_same() -> None:
    coupling = found(lambda net, x: net.last(head(net.two(net.a(x)))),
                     two=nn.Conv2d(4, 6, 3, groups=2), last=nn.Linear(6, 3))  # fmt: skip
    assert sets(coupling, "a") == [1, 2, 1, 2]
    assert reads(coupling, "two") == [1, 2]
    assert sets(coupling, "two") == reads(coupling, "last") == [3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: F.layer_norm(x, (4, 6, 6)),
        lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
        lambda x: x * x.flatten(2).mean(-2, keepdim=True).view(-1, 1, 6, 6),
        lambda x: x.transpose(1, 2).transpose(1, 2),
        lambda x: x.flip(1),
        lambda x: x[:, [1, 0, 2, 3]],
        lambda x: torch.cat(x.chunk(2, 1), 1),
        lambda x: x.chunk(2, 2)[0].flatten(1).view(-1, 4, 3, 6),
        lambda x: x / x.mean(0),
        lambda x: x / x.size(1),
        lambda x: x / x.shape[1],
        lambda x: x.view(-1, 2, 2, 6, 6).flatten(1, 2),
        lambda x: x.cumsum(1),
    ],
    ids=[
        *("layer norm", "mean", "mean from behind", "turned", "flip", "index", "chunk", "half", "of a batch", "size"),
        *("shape", "view", "running sum"),
    ],
)
def test_channels_of_what_is_not_known_stay(mixing: Callable[[Tensor], Tensor]) -> None:
    coupling = found(lambda net, x: net.last(head(net.b(mixing(net.a(x))))), last=nn.Linear(4, 3))
    assert sets(coupling, "a") == [0, 0, 0, 0]
    assert sets(coupling, "b") == [1, 2, 3, 4], "what comes after goes"


def test_channels_of_parameters_of_the_network_stay() -> None:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.last(head(net.a(x) * net.scale)), last=nn.Linear(4, 3))
            self.scale = nn.Parameter(torch.ones(4, 1, 1))

    coupling = coupling_of(fx.symbolic_trace(Scaled()), torch.zeros(2, 2, 6, 6))
    assert sets(coupling, "a") == [0, 0, 0, 0]


def test_channels_of_a_layer_that_is_applied_twice_stay() -> None:
    coupling = found(lambda net, x: net.last(head(net.b(F.relu(net.b(net.a(x)))))), last=nn.Linear(4, 3))
    assert coupling.layers == ()
    assert "b.weight" not in coupling.outputs


def test_features_of_a_sequence_lie_in_the_last_dimension() -> None:
    """(N, T, F): the channels of the first layer are F, and what pools over T takes them for places."""
    module = nn.Sequential(
        nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 5), nn.MaxPool1d(3, stride=1, padding=1), nn.Linear(5, 3)
    )
    coupling = coupling_of(fx.symbolic_trace(module), torch.zeros(2, 7, 6))
    assert sets(coupling, "0") == reads(coupling, "2") == [1, 2, 3, 4]
    assert sets(coupling, "2") == reads(coupling, "4") == [0] * 5
    assert coupling.places["0.weight"] == 7


def test_poolings_over_images_take_no_signal() -> None:
    """torch takes (N, C, L) for one image without a batch, and would pool over its channels."""
    module = nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool2d(3, stride=1, padding=1), nn.Flatten(), nn.Linear(16, 3))
    coupling = coupling_of(fx.symbolic_trace(module), torch.zeros(2, 2, 6))
    assert sets(coupling, "0") == [0, 0, 0, 0]


def test_masks_keep_what_lies_between_channels_that_stay() -> None:
    coupling = found(lambda net, x: net.last(head(net.b(net.a(x)))), last=nn.Linear(4, 3))
    like = {"a.weight": torch.zeros(4, 2, 3, 3), "b.weight": torch.zeros(4, 4, 3, 3), "last.weight": torch.zeros(3, 4),
            "of its own": torch.zeros(5)}  # fmt: skip
    kept = torch.tensor([True, True, False, False, True, False, True, False, False])
    masks = coupling.masks(kept, like)
    assert masks["a.weight"].flatten(1).any(1).tolist() == [True, False, False, True]
    assert masks["b.weight"][:, :, 0, 0].int().tolist() == [[0] * 4, [1, 0, 0, 1], [0] * 4, [0] * 4]
    assert masks["last.weight"].int().tolist() == [[0, 1, 0, 0]] * 3
    assert masks["of its own"].all()
    weights = {name: each for name, each in like.items() if name != "of its own"}
    assert coupling.multiply_adds(masks) == 36 * (2 * 2 * 9 + 1 * 2 * 9) + 3
    assert coupling.multiply_adds_between(kept, weights) == coupling.multiply_adds(masks)
