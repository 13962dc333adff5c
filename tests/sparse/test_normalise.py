"""Batch normalisation with its activation, a batch in pieces, against torch's two layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.operators import OPERATORS, lookup
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.layers import SHARED
from safs_ray.sparse.normalise import Normalise, normalise

CHANNELS, PIXELS, IMAGES = 3, 5, 2 * LANES + 7


def images(dtype: torch.dtype = torch.float64, pixels: int = PIXELS) -> Tensor:
    """(N, channels, pixels)."""
    draws = torch.Generator().manual_seed(0)
    return 2 + 3 * torch.randn(IMAGES, CHANNELS, pixels, dtype=dtype, generator=draws)


def pieces(values: Tensor) -> list[Tensor]:
    """The same as two arrays (blocks, channels * pixels, LANES), 0 in the lanes behind the last image."""
    whole = values.new_zeros(3 * LANES, *values.shape[1:])
    whole[:IMAGES] = values
    return [each.reshape(-1, LANES, each[0].numel()).transpose(1, 2).contiguous() for each in whole.split(2 * LANES)]


def together(parts: tuple[Tensor, ...]) -> Tensor:
    rows = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])
    return rows[:IMAGES].view(IMAGES, CHANNELS, -1)


def known(dtype: torch.dtype) -> list[np.ndarray]:
    lanes = torch.zeros(3, LANES, dtype=dtype)
    lanes.view(-1)[:IMAGES] = 1
    return [lanes[:2].numpy(), lanes[2:].numpy()]


def norm(dtype: torch.dtype = torch.float64) -> nn.BatchNorm1d:
    module = nn.BatchNorm1d(CHANNELS, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
        module.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return module


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_normalise_equals_a_batch_norm_and_an_activation(operator: str, learns: bool, training: bool) -> None:
    theirs, activation = norm().train(training), ScaledActivation(lookup(operator)).double()
    with torch.no_grad():
        activation.alpha.fill_(1.25)
        activation.beta.fill_(0.75)
    activation.requires_grad_(learns)
    layer = Normalise(mine := norm(), np.ones(CHANNELS, np.bool_), PIXELS, operator)
    source, values = images().requires_grad_(), torch.cat([mine.weight, mine.bias]).detach().requires_grad_()
    parameters = torch.stack([each.detach() for each in activation.parameters()]).requires_grad_(learns)
    sources = [each.detach().requires_grad_() for each in pieces(source.detach())]
    outs = normalise(layer, sources, values, parameters, known(source.dtype), training)
    expected = activation(theirs(source))
    torch.testing.assert_close(together(outs), expected)
    gradient = images().flip(0)
    expected.backward(gradient)
    torch.autograd.backward(outs, pieces(gradient))
    torch.testing.assert_close(together(tuple(each.grad for each in sources if each.grad is not None)), source.grad)
    torch.testing.assert_close(
        values.grad, torch.cat([each.grad for each in theirs.parameters() if each.grad is not None])
    )
    if learns:
        right = [torch.zeros_like(each) if each.grad is None else each.grad for each in activation.parameters()]
        torch.testing.assert_close(parameters.grad, torch.stack(right))
    for own, other in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(own, other)


def test_normalise_on_several_threads_gives_the_same_bits() -> None:
    pixels, before = SHARED // (CHANNELS * LANES) + 1, torch.get_num_threads()
    source, gradient = (pieces(each) for each in (images(torch.float32, pixels), images(torch.float32, pixels).flip(0)))

    def all_of_it(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        module = norm(torch.float32)
        layer = Normalise(module, np.ones(CHANNELS, np.bool_), pixels, "srs")
        sources = [each.clone().requires_grad_() for each in source]
        values = torch.cat([module.weight, module.bias]).detach().requires_grad_()
        parameters = torch.tensor([1.25, 0.75, 5.0, 3.0], requires_grad=True)
        outs = normalise(layer, sources, values, parameters, known(torch.float32), True)
        found = torch.autograd.grad(outs, [*sources, values, parameters], gradient)
        return [*outs, *found, *module.buffers()]

    try:
        for one, other in zip(all_of_it(3), all_of_it(1), strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)
