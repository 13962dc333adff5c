"""Batch normalisation with the layer before it and its tail, a batch in pieces, against torch's layers one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.operators import OPERATORS, lookup
from safs_ray.sparse.graph import Affine
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.layers import SHARED, Linear
from safs_ray.sparse.normalise import Batch, Normalise, normalise
from safs_ray.sparse.tables import Slot, by_channels
from safs_ray.sparse.tails import Tail

CHANNELS, PIXELS, IMAGES = 3, 6, 2 * LANES + 7
NOTHING = torch.empty(0)


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


def batch(dtype: torch.dtype, training: bool = True) -> Batch:
    lanes = torch.zeros(3, LANES, dtype=dtype)
    lanes.view(-1)[:IMAGES] = 1
    return Batch([2 * LANES, IMAGES - 2 * LANES], [lanes[:2].numpy(), lanes[2:].numpy()], training)


def norm(dtype: torch.dtype = torch.float64) -> nn.BatchNorm1d:
    module = nn.BatchNorm1d(CHANNELS, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
        module.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return module


def gradients(of: Iterable[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(each) if each.grad is None else each.grad for each in of]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_normalise_equals_a_batch_norm_and_an_activation(operator: str, learns: bool, training: bool) -> None:
    theirs, activation = norm().train(training), ScaledActivation(lookup(operator)).double()
    with torch.no_grad():
        activation.alpha.fill_(1.25)
        activation.beta.fill_(0.75)
    activation.requires_grad_(learns)
    layer = Normalise(mine := norm(), np.ones(CHANNELS, np.bool_), PIXELS, Tail(operator))
    source, values = images().requires_grad_(), torch.cat([mine.weight, mine.bias]).detach().requires_grad_()
    parameters = torch.stack([each.detach() for each in activation.parameters()]).requires_grad_(learns)
    sources = [each.detach().requires_grad_() for each in pieces(source.detach())]
    outs = normalise(layer, sources, [], (NOTHING, values, parameters), batch(source.dtype, training))
    expected = activation(theirs(source))
    torch.testing.assert_close(together(outs), expected)
    gradient = images().flip(0)
    expected.backward(gradient)
    torch.autograd.backward(outs, pieces(gradient))
    torch.testing.assert_close(together(tuple(gradients(sources))), source.grad)
    torch.testing.assert_close(values.grad, torch.cat(gradients(theirs.parameters())))
    if learns:
        torch.testing.assert_close(parameters.grad, torch.stack(gradients(activation.parameters())))
    for own, other in zip(mine.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("convolves", [True, False])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("pools", [True, False])
@pytest.mark.parametrize("operator", ["relu", "srs"])
def test_normalise_with_all_around_it_equals_the_layers(
    operator: str, pools: bool, adds: bool, convolves: bool, training: bool
) -> None:
    theirs, activation = norm().train(training), ScaledActivation(lookup(operator)).double()
    convolution = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1, dtype=torch.float64)
    layer = linear() if convolves else None
    windows = np.arange(PIXELS, dtype=np.int32).reshape(-1, 2)
    tail = Tail(operator, adds, 2 if pools else 0)
    mine = Normalise(norm(), np.ones(CHANNELS, np.bool_), PIXELS, tail, windows if pools else None, layer)
    source, other = images().requires_grad_(), images().roll(1, 0).requires_grad_()
    value = theirs(convolution(source) if convolves else source)
    expected = activation(value + other if adds else value)
    expected = nn.functional.max_pool1d(expected, 2) if pools else expected
    gradient = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(1))
    expected.backward(gradient)

    weights = torch.cat([convolution.weight.flatten(), convolution.bias]).detach().requires_grad_()
    values = torch.cat([theirs.weight, theirs.bias]).detach().requires_grad_()
    parameters = torch.stack([each.detach() for each in activation.parameters()]).requires_grad_()
    learned = (weights if convolves else NOTHING, values, parameters)
    inputs, others = ([piece.requires_grad_() for piece in pieces(each.detach())] for each in (source, other))
    outs = normalise(mine, inputs, others if adds else [], learned, batch(source.dtype, training))
    torch.testing.assert_close(together(outs), expected)
    torch.autograd.backward(outs, pieces(gradient))
    torch.testing.assert_close(together(tuple(gradients(inputs))), source.grad)
    torch.testing.assert_close(values.grad, torch.cat(gradients(theirs.parameters())))
    torch.testing.assert_close(parameters.grad, torch.stack(gradients(activation.parameters())))
    if adds:
        torch.testing.assert_close(together(tuple(gradients(others))), other.grad)
    if convolves:
        assert weights.grad is not None
        right = torch.cat([each.flatten() for each in gradients(convolution.parameters())])
        torch.testing.assert_close(weights.grad, right)
        if training:
            assert not weights.grad[-CHANNELS:].any(), "a shift before a batch's own mean changes nothing"


def linear() -> Linear:
    """A convolution of three pixels with all of its weights."""
    pixel = np.arange(PIXELS)[:, None] + np.arange(-1, 2)
    table = np.where((pixel >= 0) & (pixel < PIXELS), pixel, -1)
    affine = Affine("convolution", table, 1, True, (CHANNELS, PIXELS))
    kept, live = np.ones((CHANNELS, CHANNELS, 3), np.bool_), np.ones((CHANNELS, PIXELS), np.bool_)
    return by_channels(affine, kept, live, live, Slot(np.arange(kept.size), np.arange(CHANNELS)))


def test_normalise_passes_a_gradient_to_the_first_of_equal_values_in_a_window() -> None:
    windows = np.arange(PIXELS, dtype=np.int32).reshape(-1, 2)
    mine = Normalise(norm(), np.ones(CHANNELS, np.bool_), PIXELS, Tail("relu", places=2), windows)
    sources = [torch.ones_like(each).requires_grad_() for each in pieces(images())]
    outs = normalise(
        mine, sources, [], (NOTHING, torch.ones(6).double(), torch.ones(2).double()), batch(torch.float64, False)
    )
    torch.autograd.backward(outs, [torch.ones_like(each) for each in outs])
    found = together(tuple(gradients(sources)))
    assert (found[..., ::2] > 0).all()
    assert not found[..., 1::2].any()


def test_normalise_on_several_threads_gives_the_same_bits() -> None:
    pixels, before = SHARED // (CHANNELS * LANES) + 1, torch.get_num_threads()
    source, gradient = (pieces(each) for each in (images(torch.float32, pixels), images(torch.float32, pixels).flip(0)))

    def all_of_it(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        module = norm(torch.float32)
        layer = Normalise(module, np.ones(CHANNELS, np.bool_), pixels, Tail("srs"))
        sources = [each.clone().requires_grad_() for each in source]
        values = torch.cat([module.weight, module.bias]).detach().requires_grad_()
        parameters = torch.tensor([1.25, 0.75, 5.0, 3.0], requires_grad=True)
        outs = normalise(layer, sources, [], (NOTHING, values, parameters), batch(torch.float32))
        found = torch.autograd.grad(outs, [*sources, values, parameters], gradient)
        return [*outs, *found, *module.buffers()]

    try:
        for one, other in zip(all_of_it(3), all_of_it(1), strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)
