from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from safs_ray.config import ConfigurationError
from safs_ray.pruning.scores import (
    ROUNDS,
    SCORES,
    Evidence,
    fisher,
    folded,
    grasp,
    lamp,
    magnitude,
    random,
    snip,
    synflow,
    taylor,
)

EVERY = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())

Score = Callable[[Evidence], dict[str, Tensor]]


def evidence(
    module: nn.Module, images: list[list[float]], labels: list[int], seed: int = 0, sites: tuple[str, ...] = ()
) -> Evidence:
    return Evidence(
        module.double().eval(), torch.tensor(images, dtype=torch.float64), torch.tensor(labels), seed, sites
    )


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    return layer


@pytest.fixture
def two_layers() -> nn.Module:
    """Two inputs, two hidden neurons with tanh, one output; biases that a flow must not see."""
    return nn.Sequential(linear([[1, -2], [0, 3]], [5, -7]), nn.Tanh(), linear([[2, -1]], [100]))


def test_magnitude_is_the_absolute_value_in_the_weights_shape() -> None:
    scores = magnitude(evidence(nn.Sequential(linear([[1.5, -2.0], [0.0, -0.25]]), linear([[-3, 1]])), [[0, 0]], [0]))
    assert {name: score.tolist() for name, score in scores.items()} == {
        "0.weight": [[1.5, 2.0], [0.0, 0.25]],
        "1.weight": [[3.0, 1.0]],
    }


def test_snip_is_weight_times_gradient_of_the_summed_loss() -> None:
    """At equal logits dL/dlogits is softmax minus label: (-1/2, 1/2) for an image of class 0."""
    module = linear([[4, 2], [4, 2]])
    scores = snip(evidence(module, [[1, 0]], [0]))["weight"]
    assert scores.tolist() == [[2.0, 0.0], [2.0, 0.0]], "|4 (-1/2) 1|, and nothing where the input is 0"
    scores = snip(evidence(module, [[1, 0], [1, 0], [0, 3]], [0, 0, 1]))["weight"]
    assert scores.tolist() == [[4.0, 3.0], [4.0, 3.0]], "summed over the images"
    scores = snip(evidence(module, [[1, 0], [1, 0]], [0, 1]))["weight"]
    assert scores.tolist() == [[0.0, 0.0], [0.0, 0.0]], "the sum is taken before the absolute value"


def test_grasp_is_weight_times_hessian_times_gradient() -> None:
    """Two equal logits of one input 1: p = 1/2, g = (-p, p) / 200, H = p (1 - p) / 200^2 [[1, -1], [-1, 1]]."""
    scores = grasp(evidence(linear([[3], [3]]), [[1]], [0]))["weight"]
    product = (1 / 4 / 200**2) * (-1 / 200)
    assert scores.flatten().tolist() == pytest.approx([3 * product, -3 * product], rel=1e-9)


def test_grasp_takes_the_hessian_of_the_whole_network_and_all_images() -> None:
    """Against central differences of the gradient, along the gradient itself."""
    draws = torch.Generator().manual_seed(0)
    hidden, output = (torch.randn(shape, generator=draws).tolist() for shape in ((3, 2), (2, 3)))
    module = nn.Sequential(linear(hidden, [0.1, 0.2, 0.3]), nn.Tanh(), linear(output))
    images = torch.randn((150, 2), generator=draws, dtype=torch.float64)  # more than one batch of gradients
    seen = Evidence(module.double().eval(), images, torch.arange(150) % 2)
    scores = grasp(seen)

    def gradient() -> list[Tensor]:
        loss = nn.functional.cross_entropy(module(images) / 200, seen.labels, reduction="sum")
        return list(torch.autograd.grad(loss, list(seen.weights.values())))

    def moved(distance: float) -> list[Tensor]:
        with torch.no_grad():
            for weight, direction in zip(seen.weights.values(), along, strict=True):
                weight.add_(distance * direction)
        return gradient()

    along, step = gradient(), 1e-3
    after, before = moved(step), moved(-2 * step)
    moved(step)
    for weight, high, low, score in zip(seen.weights.values(), after, before, scores.values(), strict=True):
        expected = weight.detach() * (high - low) / (2 * step)
        assert torch.allclose(score, expected, rtol=1e-4, atol=1e-12)


def test_synflow_is_the_flow_through_a_weight(two_layers: nn.Module) -> None:
    """|W1| = [[1, 2], [0, 3]] makes both hidden values 3, so R = 2 * 3 + 1 * 3."""
    scores = synflow(evidence(two_layers, [[0, 0]], [0], sites=("1",)))
    assert scores["0.weight"].tolist() == [[2.0, 4.0], [0.0, 3.0]]
    assert scores["2.weight"].tolist() == [[6.0, 3.0]]


def test_synflow_is_conserved_from_layer_to_layer_and_does_not_overflow() -> None:
    deep = nn.Sequential(*(linear((torch.full((8, 8), 100.0) * (-1) ** index).tolist()) for index in range(30)))
    totals = [score.sum().item() for score in synflow(evidence(deep.float(), [[0] * 8], [0])).values()]
    assert all(math.isfinite(total) for total in totals)
    assert totals == pytest.approx([8 * 800.0**30] * 30)


def test_synflow_goes_through_batch_normalisation_by_its_scale() -> None:
    """gamma / sqrt(variance) = -3 / 2 of the normalisation counts by its size, mean and shift do not."""
    norm = nn.BatchNorm1d(1, eps=0).double()
    with torch.no_grad():
        norm.weight.fill_(-3)
        norm.bias.fill_(11)
        norm.running_mean.fill_(-20)  # type: ignore[union-attr]
        norm.running_var.fill_(4)  # type: ignore[union-attr]
    scores = synflow(evidence(nn.Sequential(linear([[-2]]), norm, linear([[5]])), [[0]], [0]))
    assert [score.item() for score in scores.values()] == [15, 15]


def test_taylor_is_weight_times_gradient_with_its_sign() -> None:
    module = linear([[4, 2], [4, 2]])
    scores = taylor(evidence(module, [[1, 0], [1, 0], [0, 3]], [0, 0, 1]))["weight"]
    assert scores.tolist() == [[-4.0, 3.0], [4.0, -3.0]]


def test_fisher_is_the_sum_of_the_squared_gradients_of_each_image() -> None:
    """Gradients of an image of class 0 are -1/2 and 1/2 times the input; those of two classes do not cancel."""
    module = linear([[4, 2], [4, 2]])
    scores = fisher(evidence(module, [[1, 0], [1, 0], [0, 3]], [0, 1, 1]))["weight"]
    assert scores.tolist() == [[0.5, 2.25], [0.5, 2.25]]


def test_lamp_is_the_share_of_a_weight_in_those_that_are_as_large() -> None:
    scores = lamp(evidence(nn.Sequential(linear([[1, -2], [3, 0]]), linear([[-5, 5]])), [[0, 0]], [0]))
    assert scores["0.weight"].tolist() == [[1 / 14, 4 / 13], [1.0, 0.0]]
    assert scores["1.weight"].tolist() == [[0.5, 1.0]]
    assert lamp(evidence(linear([[0, 0]]), [[0, 0]], [0]))["weight"].tolist() == [[0.0, 0.0]]


def test_folded_is_the_magnitude_behind_the_batch_normalisation() -> None:
    norm = nn.BatchNorm1d(2, eps=0.0).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-3.0, 1.0]))
        norm.running_var.copy_(torch.tensor([4.0, 1.0]))  # type: ignore[union-attr]
    module = nn.Sequential(linear([[1, -2], [0, 3]]), norm, nn.Tanh(), linear([[2, -1]]))
    scores = folded(evidence(module, [[0, 0]], [0]))
    assert scores["0.weight"].tolist() == [[1.5, 3.0], [0.0, 3.0]]
    assert scores["3.weight"].tolist() == [[2.0, 1.0]]


def test_random_scores_follow_from_seed_and_name(two_layers: nn.Module) -> None:
    one, again, other = (random(evidence(two_layers, [[0, 0]], [0], seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert not torch.equal(one["0.weight"][0], one["2.weight"][0]), "layers differ"
    assert all(((score >= 0) & (score < 1)).all() for score in one.values())


@EVERY
def test_scores_have_the_weights_shapes_and_change_nothing(score: Score, two_layers: nn.Module) -> None:
    module = nn.Sequential(two_layers, nn.ReLU(), linear([[1], [-1]]))
    seen = evidence(module, [[1, 2], [3, 4]], [0, 1])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    scores = score(seen)
    assert {name: tuple(value.shape) for name, value in scores.items()} == {
        "0.0.weight": (2, 2),
        "0.2.weight": (1, 2),
        "2.weight": (2, 1),
    }
    assert not any(value.requires_grad for value in scores.values())
    for value in scores.values():
        value.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@EVERY
def test_a_layer_that_the_outputs_do_not_depend_on_is_scored_too(score: Score) -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = linear([[1]])
            self.used = linear([[1], [2]])

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.used(x)
            return output

    scores = score(evidence(Aside(), [[1]], [0]))
    assert set(scores) == {"unused.weight", "used.weight"}
    if score in (snip, grasp, synflow, taylor, fisher):
        assert scores["unused.weight"].item() == 0


def test_rounds_are_of_scores_that_are_there() -> None:
    assert ROUNDS == {"synflow": 100}
    assert set(ROUNDS) <= set(SCORES)


def test_synflow_is_conserved_before_a_softmax_and_through_normalisations() -> None:
    def chain(*between: nn.Module) -> list[float]:
        layers = [linear((torch.randn(4, 4, generator=draws)).tolist()) for _ in range(3)]
        module = nn.Sequential(layers[0], nn.ReLU(), *between, layers[1], layers[2], nn.LogSoftmax(1))
        return [score.sum().item() for score in synflow(evidence(module, [[1] * 4], [0])).values()]

    draws = torch.Generator().manual_seed(0)
    for between in ((), (nn.LayerNorm(4).double(),), (nn.BatchNorm1d(4, track_running_stats=False).double(),)):
        first, *others = chain(*between)
        assert first > 0
        assert others == pytest.approx([first] * 2)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = linear([[1, 2], [3, 4]]), linear([[1, 2], [3, 4]])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        output: Tensor = self.last(x * torch.sigmoid(x))
        return output


class Halving(Attending):
    """Divides by a deviation of its own making."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        output: Tensor = self.last(x / (x.pow(2).mean(1, keepdim=True) + 1e-5).sqrt())
        return output


@pytest.mark.parametrize("network", [Attending, Halving])
def test_synflow_refuses_a_network_that_is_not_linear_without_its_activations(network: type[nn.Module]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        synflow(evidence(network(), [[1, 2]], [0]))
    assert str(refused.value).startswith(
        "pruning.score=synflow: takes a network that is linear without its activations and normalisations; of this one "
    )
    assert str(refused.value).endswith(" in; allowed: magnitude, random, snip, grasp, taylor, fisher, lamp")


def test_synflow_refuses_a_network_without_a_flow() -> None:
    with pytest.raises(ConfigurationError) as refused:
        synflow(evidence(nn.Sequential(linear([[0, 0]]), linear([[1]])), [[1, 2]], [0]))
    assert str(refused.value) == (
        "pruning.score=synflow: finds no flow through this network; "
        "allowed: magnitude, random, snip, grasp, taylor, fisher, lamp"
    )
