"""Scores: how much each weight matters, in the shape of the weight. The lowest go first."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safs_ray.config import refusal
from safs_ray.losses import CROSS_ENTROPY, Loss, Targets
from safs_ray.pruning.linear import linearised
from safs_ray.pruning.masks import LAYERS, prunable_weights
from safs_ray.randomness import generator
from safs_ray.references import resolve

BATCH = 100
"""Images whose gradients are taken at a time."""


@dataclass(frozen=True)
class Evidence:
    """What a score may look at; it changes nothing of it.

    Attributes:
        module: computes outputs (N, outputs); its prunable weights are scored. Where it has been trained it is in
            evaluation mode; initial weights are scored in training mode, for their normalisations have no statistics.
        images: normalised images (N, C, H, W), or other inputs, N at least 1.
        labels: their classes (N,), or values (N, outputs).
        seed: of random scores.
        sites: names of the submodules that apply activations.
        loss: that the network is trained with.
    """

    module: nn.Module
    images: Tensor
    labels: Tensor
    seed: int = 0
    sites: tuple[str, ...] = ()
    loss: Loss = CROSS_ENTROPY

    @property
    def weights(self) -> dict[str, Tensor]:
        """The prunable weights by name, as they are now."""
        return prunable_weights(self.module)

    @property
    def scales(self) -> dict[str, Tensor]:
        """Those of the batch normalisations (channels,), by their names, as they are now."""
        norms = ((name, child) for name, child in self.module.named_modules() if isinstance(child, BATCH_NORMS))
        return {name: norm.weight.detach() for name, norm in norms if norm.affine}

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels, in parts that fit into memory."""
        count = -(-len(self.images) // BATCH)  # nearly equal: of one image batch normalisation has no statistics
        return zip(self.images.tensor_split(count), self.labels.tensor_split(count), strict=True)


def magnitude(evidence: Evidence) -> dict[str, Tensor]:
    """|w| (Han et al. 2015).

    Examples:
        >>> module = nn.Linear(2, 1)
        >>> _ = module.weight.data.copy_(torch.tensor([[-3.0, 1.0]]))
        >>> magnitude(Evidence(module, images=torch.zeros(1, 2), labels=torch.tensor([0])))
        {'weight': tensor([[3., 1.]])}
    """
    return {name: weight.detach().abs() for name, weight in evidence.weights.items()}


def random(evidence: Evidence) -> dict[str, Tensor]:
    """Uniform in [0, 1), the same for the same seed and name: the baseline of every comparison."""
    return {
        name: torch.rand(weight.shape, generator=generator(evidence.seed, "random score", name)).to(weight.device)
        for name, weight in evidence.weights.items()
    }


def snip(evidence: Evidence) -> dict[str, Tensor]:
    """|w dL/dw|, the gradient of the loss by the mask, L being summed over the images (SNIP, Lee et al. 2019)."""
    gradients = _gradients(evidence, temperature=1)
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in evidence.weights.items()}


def grasp(evidence: Evidence) -> dict[str, Tensor]:
    """w Hg, H and g being Hessian and gradient of the loss of the logits / 200 (GraSP, Wang et al. 2020).

    The paper removes the weights of the largest -w Hg, whose loss reduces the flow of the gradient least; so
    do we, the lowest w Hg going first.
    """
    gradients = _gradients(evidence, TEMPERATURE)
    products = _hessian_products(evidence, TEMPERATURE, gradients)
    return {name: weight.detach() * products[name] for name, weight in evidence.weights.items()}


def taylor(evidence: Evidence) -> dict[str, Tensor]:
    """w dL/dw with its sign, by how much the loss falls when a weight goes, to first order (Molchanov et al. 2019).

    Of a channel the sum over its weights counts, of a single weight the size alone, which makes it SNIP's score.
    """
    gradients = _gradients(evidence, temperature=1)
    return {name: weight.detach() * gradients[name] for name, weight in evidence.weights.items()}


def fisher(evidence: Evidence) -> dict[str, Tensor]:
    """(dL/dw)^2, summed over the images, L being the loss of one: the diagonal of the empirical Fisher information.

    As FISH masks take it (Sung et al. 2021). Normalisations are those of evaluation, for an image has none of its own.
    """
    module = copy.deepcopy(evidence.module).eval()
    weights = prunable_weights(module)
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for image, label in zip(evidence.images[:, None], evidence.labels[:, None], strict=True):
        loss = evidence.loss.summed(module(image), Targets(label))
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            sums[name] += gradient.square()
    return sums


def lamp(evidence: Evidence) -> dict[str, Tensor]:
    """w^2 over the sum of the squares of the weights of its layer that are as large or larger (LAMP, Lee et al. 2021).

    So the last weight of every layer has a score of 1. Within a layer it ranks as magnitude does; published with one
    ranking over all layers.

    Examples:
        >>> module = nn.Linear(2, 1)
        >>> _ = module.weight.data.copy_(torch.tensor([[-1.0, 2.0]]))
        >>> lamp(Evidence(module, images=torch.zeros(1, 2), labels=torch.tensor([0])))
        {'weight': tensor([[0.2000, 1.0000]])}
    """
    return {name: _share_of_larger(weight.detach()) for name, weight in evidence.weights.items()}


def _share_of_larger(weight: Tensor) -> Tensor:
    squares, order = weight.flatten().square().sort(stable=True)
    above = squares.flip(0).cumsum(0).flip(0)
    shares = torch.empty_like(squares)
    shares[order] = squares / above.clamp(min=torch.finfo(squares.dtype).tiny)
    return shares.view_as(weight)


def folded(evidence: Evidence) -> dict[str, Tensor]:
    """|w gamma / sigma|: the magnitude that a weight has once the batch normalisation behind its layer is folded in.

    gamma is that normalisation's scale, which ranks channels in network slimming (Liu et al. 2017), and sigma the
    deviation that it divides by. A weight without one keeps its magnitude.
    """
    scores = magnitude(evidence)
    for name, factor in _normalised_by(evidence).items():
        scores[name] = scores[name] * factor.view(-1, *[1] * (scores[name].dim() - 1))
    return scores


@torch.no_grad()
def _normalised_by(evidence: Evidence) -> dict[str, Tensor]:
    """What a batch normalisation multiplies the outputs (outputs,) of a layer with, by name of its weight."""
    module = copy.deepcopy(evidence.module).eval()
    names = {id(weight): name for name, weight in prunable_weights(module).items()}
    given: list[tuple[Tensor, str]] = []
    factors: dict[str, Tensor] = {}

    def keep(layer: nn.Module, _: object, output: Tensor) -> None:
        given.append((output, names[id(layer.weight)]))

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for output, name in given:
            if output is inputs[0]:
                factors[name] = _factor(norm)

    for child in module.modules():
        if isinstance(child, LAYERS):
            child.register_forward_hook(keep)
        elif isinstance(child, BATCH_NORMS):
            child.register_forward_pre_hook(look)
    module(evidence.images[:2])
    return factors


def _factor(norm: nn.Module) -> Tensor:
    assert isinstance(norm, BATCH_NORMS)
    scale = norm.weight if norm.affine else torch.ones(norm.num_features)
    return (scale if norm.running_var is None else scale / (norm.running_var + norm.eps).sqrt()).abs()


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synflow(evidence: Evidence) -> dict[str, Tensor]:
    """|w dR/dw| in float64, R being the sum of the outputs of an input of ones (SynFlow, Tanaka et al. 2020).

    The network is the linear one of the absolute weights, without data. To be taken in many rounds, since a
    weight's score depends on which others are left.

    Raises:
        ConfigurationError: the network is not linear without its activations.
    """
    if not evidence.images.is_floating_point():
        raise refusal("pruning.score", "synflow", f"takes numbers, and this network takes indices; {OTHERS}")
    linear = linearised(evidence.module, evidence.sites)
    weights = prunable_weights(linear.module)
    ones = torch.ones_like(evidence.images[:1], dtype=torch.float64).requires_grad_()
    flow = linear(ones).sum()
    of_input, *gradients = torch.autograd.grad(flow, [ones, *weights.values()], materialize_grads=True)
    scores = {
        name: (weight.detach() * gradient).abs()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }
    _check_conserved(flow, (ones * of_input).sum())
    if not any(score.any() for score in scores.values()):
        raise refusal("pruning.score", "synflow", f"finds no flow through this network; {OTHERS}")
    return scores


OTHERS = "allowed: magnitude, random, snip, grasp, taylor, fisher, lamp"


def _check_conserved(flow: Tensor, of_input: Tensor) -> None:
    """Refuse a network that is not linear without its activations: as much must flow in as flows out.

    Raises:
        ConfigurationError: it is not, as with attention, or gates that multiply.
    """
    if not torch.isclose(flow, of_input, rtol=1e-6):
        reason = f"takes a network that is linear without its activations and normalisations; of this one {flow:.4g}"
        raise refusal("pruning.score", "synflow", f"{reason} flows out and {of_input:.4g} in; {OTHERS}")


TEMPERATURE = 200.0
"""What GraSP divides the logits by: the weights are not ready to classify yet."""

Score = Callable[[Evidence], dict[str, Tensor]]
"""Gives each prunable weight a tensor of its shape; the lowest go first."""

SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "random": random,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "taylor": taylor,
    "fisher": fisher,
    "lamp": lamp,
    "folded": folded,
}

SIGNED = ("taylor",)
"""Scores of which the sum over a channel counts, and of that and of a single weight the size."""


SCALED = ("magnitude",)
"""Scores beside which the scales of batch normalisations count where whole channels go."""


def find_score(name: str) -> Score:
    """The score of a name, or a user's own function by ``package.module:function``.

    Raises:
        ConfigurationError: there is no such function.
    """
    return SCORES.get(name) or resolve(name, "pruning.score")


ROUNDS = {"synflow": 100}
"""In how many rounds a score is taken, on an exponential schedule; those that are not here in one."""


def _gradients(evidence: Evidence, temperature: float) -> dict[str, Tensor]:
    """dL/dw by name, L being the cross entropy of the logits / temperature, summed over the images."""
    weights = evidence.weights
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for images, labels in evidence.batches():
        loss = evidence.loss.summed(evidence.module(images) / temperature, Targets(labels))
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            sums[name] += gradient
    return sums


def _hessian_products(evidence: Evidence, temperature: float, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The Hessian of the same loss times a vector, by name."""
    weights = list(evidence.weights.values())
    sums = {name: torch.zeros_like(part) for name, part in vector.items()}
    for images, labels in evidence.batches():
        loss = evidence.loss.summed(evidence.module(images) / temperature, Targets(labels))
        gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        projection = torch.stack([(g * v).sum() for g, v in zip(gradients, vector.values(), strict=True)]).sum()
        products = torch.autograd.grad(projection, weights, materialize_grads=True)
        for name, product in zip(vector, products, strict=True):
            sums[name] += product
    return sums
