from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from safs_ray.activations import ScaledActivation
from safs_ray.operators import OPERATORS, lookup
from safs_ray.sparse.activate import Activate, ActivateFrozen
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.layers import SHARED, apply
from safs_ray.sparse.symbols import NotCompilableError


@pytest.fixture
def several_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def scaled(operator: str) -> ScaledActivation:
    activation = ScaledActivation(lookup(operator)).double()
    with torch.no_grad():
        activation.alpha.fill_(1.25)
        activation.beta.fill_(0.75)
    return activation


def drawn(blocks: int, rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return 3 * torch.randn(blocks, rows, LANES, dtype=dtype, generator=draws)


def layer_and_values(activation: ScaledActivation) -> tuple[Activate, Tensor]:
    return Activate(activation.operator.name), torch.stack(tuple(activation.parameters()))


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_value_and_gradients_are_those_of_torch(operator: str) -> None:
    activation = scaled(operator)
    parameters = tuple(activation.parameters())
    source, gradient = drawn(3, 5).requires_grad_(), drawn(3, 5).flip(0)
    layer, values = layer_and_values(activation)
    (out,) = apply(layer, [source], values)
    expected = activation(source)
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out, (source, *parameters), gradient)
    for own, right in zip(found, torch.autograd.grad(expected, (source, *parameters), gradient), strict=True):
        torch.testing.assert_close(own, right)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_the_gradient_of_the_source_alone_is_that_of_torch(operator: str) -> None:
    activation = scaled(operator).requires_grad_(False)
    source, gradient = drawn(3, 5).requires_grad_(), drawn(3, 5).flip(0)
    _, values = layer_and_values(activation)
    (out,), expected = apply(ActivateFrozen(operator), [source], values), activation(source)
    torch.testing.assert_close(out, expected)
    (found,), (right,) = (torch.autograd.grad(each, source, gradient) for each in (out, expected))
    torch.testing.assert_close(found, right)


def test_threads_change_no_bit(several_threads: None) -> None:  # noqa: ARG001
    activation = scaled("srs").float()
    layer, values = layer_and_values(activation)
    source = drawn(7, SHARED // (7 * LANES) + 1, torch.float32)
    gradient = source.flip(0)

    def all_of_it() -> list[Tensor]:
        inputs = source.clone().requires_grad_()
        (learned,), (frozen,) = apply(layer, [inputs], values), apply(ActivateFrozen("srs"), [inputs], values.detach())
        parameters = tuple(activation.parameters())
        found = torch.autograd.grad(learned, (inputs, *parameters), gradient, retain_graph=True)
        return [learned, frozen, *found, *torch.autograd.grad(frozen, inputs, gradient)]

    shared = all_of_it()
    torch.set_num_threads(1)
    for one, other in zip(shared, all_of_it(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(NotCompilableError):
        Activate(f"{__name__}:sorted_values").forward(drawn(1, 1).numpy(), np.ones(2))


def sorted_values(z: Tensor) -> Tensor:
    return torch.sort(z, 0).values
