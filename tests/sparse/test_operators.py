"""Compiled operators against torch and its gradients."""

from __future__ import annotations

import ctypes

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from safs_ray.operators import OPERATORS, lookup
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.operators import compiled
from safs_ray.sparse.symbols import NotCompilableError

NAMES = [
    *OPERATORS,
    "leaky_relu(0.2)",
    "elu(0.5)",
    "celu(1.5)",
    "softplus(2, 5)",
    "hardtanh(-2, 3)",
    "gelu_tanh",
    "prelu",
]
"""Of the table, and variants with settings of their own."""

SPECIAL = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 10.0, -10.0, 20.0, 1e-6, -1e-6, 1e-3, 88.0, -88.0, 1e4, -1e4)
SCALE = st.floats(0.1, 2) | st.floats(-2, -0.1)


def squared(z: Tensor, shift: float = 0.5) -> Tensor:
    """A user's operator with a parameter."""
    return (z - shift) ** 2 * torch.where(z > 0, 1.0, 0.125)


def by_sorting(z: Tensor) -> Tensor:
    """A user's operator that does what has no rule."""
    return torch.atan(z)


def branching(z: Tensor) -> Tensor:
    """A user's operator with a condition in Python."""
    return z if bool((z == z).all()) else -z


def compare(name: str, x: Tensor, parameters: list[float], tolerance: float) -> None:
    """Values and all gradients of f(x) = alpha g(beta x), for a gradient of 1, 2, … of the values."""
    rows, single = len(x), x.dtype == torch.float32
    code, given = compiled(name, single), torch.arange(1, x.numel() + 1, dtype=x.dtype).reshape(x.shape) / x.numel()
    values = torch.tensor(parameters, dtype=x.dtype)
    out, gradient = torch.empty_like(x), torch.empty_like(x)
    sums = torch.zeros(len(parameters), LANES, dtype=x.dtype)
    addresses = [tensor.data_ptr() for tensor in (out, x, values)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(code.ahead)(*addresses, rows)
    again, slopes = torch.empty_like(x), torch.empty_like(x)
    addresses = [tensor.data_ptr() for tensor in (again, slopes, x, values)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(code.both)(*addresses, rows)
    assert torch.equal(again, out)
    addresses = [tensor.data_ptr() for tensor in (gradient, given, x, values, sums)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(code.back)(*addresses, rows)
    # In double precision: torch's own gradients in single precision are less exact than these.
    inputs = [tensor.double().requires_grad_() for tensor in (x, *values)]
    exact, rounded = inputs[2] * inputs[0], (values[1] * x).double()
    z = exact + (rounded - exact).detach()  # what g is given; a wave changes as much as its argument is rounded
    expected = inputs[1] * lookup(name).function(z, *inputs[3:])
    found = torch.autograd.grad(expected, inputs, given.double(), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(out.double(), expected.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient.double(), found[0], rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close((given * slopes).double(), found[0], rtol=10 * tolerance, atol=10 * tolerance)
    scale = max(1.0, float(given.sum()), float(expected.detach().abs().max()))
    torch.testing.assert_close(
        sums.sum(1).double(), torch.stack(found[1:]), rtol=100 * tolerance, atol=tolerance * scale
    )


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**31), spread=st.floats(-3, 1), scales=st.tuples(SCALE, SCALE))
@example(seed=187, spread=0.953125, scales=(-2.0, 1.53125))  # of cos the argument's rounding is most of the error
@settings(max_examples=8, deadline=None)
def test_every_operator_of_the_table(name: str, seed: int, spread: float, scales: tuple[float, float]) -> None:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(3, LANES, generator=draws, dtype=torch.float64) * 10**spread
    initial = [value * (1 + 0.1 * float(torch.rand((), generator=draws))) for value in lookup(name).parameters.values()]
    compare(name, x, [*scales, *initial], 1e-11)
    compare(name, x.float(), [*scales, *initial], 2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_at_the_bends_and_far_out(name: str, dtype: torch.dtype) -> None:
    x = torch.zeros(1, LANES, dtype=dtype)
    x[0, : len(SPECIAL)] = torch.tensor(SPECIAL, dtype=dtype)
    compare(name, x, [1.0, 1.0, *lookup(name).parameters.values()], 1e-11 if dtype == torch.float64 else 4e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_number_stays_so(name: str) -> None:
    """Else a training that has diverged would not be seen to have."""
    x = torch.full((1, LANES), float("nan"))
    out = torch.zeros_like(x)
    parameters = torch.tensor([1.0, 1.0, *lookup(name).parameters.values()])
    addresses = [tensor.data_ptr() for tensor in (out, x, parameters)]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(compiled(name, True).ahead)(*addresses, 1)
    assert out.isnan().all()


def test_a_users_function_is_compiled_as_it_is() -> None:
    x = torch.linspace(-3, 3, LANES, dtype=torch.float64).reshape(1, LANES)
    compare(f"{__name__}:squared", x, [1.2, 0.7, 0.4], 1e-12)


@pytest.mark.parametrize("function", ["by_sorting", "branching"])
def test_what_has_no_rule_is_left_to_torch(function: str) -> None:
    with pytest.raises(NotCompilableError):
        compiled(f"{__name__}:{function}", True)
