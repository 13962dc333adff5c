from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.config import ConfigurationError, SearchSection
from safs_ray.operators import OPERATORS, SYMEXP_BOUND, Operator, find

Array = npt.NDArray[np.float64]

INTERNAL: dict[str, dict[str, float]] = {
    "tanhsoft1": {"a": 0.4},
    "acon": {"p1": 0.3, "p2": 1.7, "p3": 0.5},
    "srs": {"a": 3.0, "b": 2.0},
}
"""Values of the internal parameters other than those that they start with."""


def _acon(z: Array, p1: float, p2: float, p3: float) -> Array:
    """The smooth maximum of p1 z and p2 z with switching factor p3, from which ACON-C is derived."""
    first, second = np.exp(p3 * p1 * z), np.exp(p3 * p2 * z)
    maximum: Array = (p1 * z * first + p2 * z * second) / (first + second)
    return maximum


REFERENCES: dict[str, Callable[..., Array]] = {
    "relu": lambda z: np.where(z > 0, z, 0),
    "relu6": lambda z: np.clip(z, 0, 6),
    "hardswish": lambda z: np.select([z <= -3, z >= 3], [0 * z, z], z * (z + 3) / 6),
    "swish": lambda z: z / (1 + np.exp(-z)),
    "tanhsoft1": lambda z, a: np.tanh(a * z) * np.log(1 + np.exp(z)),
    "acon": _acon,
    "gelu": lambda z: z * np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)(z),
    "srs": lambda z, a, b: z / (z / a + np.exp(-z / b)),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "tanh": lambda z: (np.exp(2 * z) - 1) / (np.exp(2 * z) + 1),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "logsigmoid": lambda z: np.log(1 / (1 + np.exp(-z))),
    "symlog": lambda z: np.sign(z) * np.log(np.abs(z) + 1),
    "symexp": lambda z: np.sign(z) * (np.exp(np.abs(z)) - 1),
}
"""The published definitions in float64."""

TORCH: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardswish": nn.Hardswish(),
    "swish": nn.SiLU(),
    "gelu": nn.GELU(),
    "elu": nn.ELU(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "logsigmoid": nn.LogSigmoid(),
}

EVERY = pytest.mark.parametrize("operator", OPERATORS.values(), ids=list(OPERATORS))
GRID = np.linspace(-9.7, 9.7, 98)
AWAY_FROM_KINKS = [-11.3, -7.1, -4.3, -2.2, -0.6, -0.01, 0.02, 0.7, 1.9, 2.6, 4.4, 7.3, 11.3]


def applied(operator: Operator, z: Tensor, internal: dict[str, float]) -> Tensor:
    return operator.function(z, *(torch.tensor(value, dtype=z.dtype) for value in internal.values()))


def slope(operator: Operator, z: float) -> float:
    point = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(applied(operator, point, operator.parameters), point)
    return gradient.item()


def test_every_operator_has_a_reference() -> None:
    assert list(REFERENCES) == list(OPERATORS) == [operator.name for operator in OPERATORS.values()]
    assert {name for name, operator in OPERATORS.items() if operator.parameters} == set(INTERNAL)
    for name, values in INTERNAL.items():
        assert list(OPERATORS[name].parameters) == list(values)


@EVERY
def test_values_are_those_of_the_published_definition(operator: Operator) -> None:
    found = applied(operator, torch.from_numpy(GRID), operator.parameters)
    expected = REFERENCES[operator.name](GRID, *operator.parameters.values())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(INTERNAL))
def test_values_are_those_of_the_definition_at_other_internal_parameters(name: str) -> None:
    found = applied(OPERATORS[name], torch.from_numpy(GRID), INTERNAL[name])
    np.testing.assert_allclose(found.numpy(), REFERENCES[name](GRID, *INTERNAL[name].values()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(TORCH))
def test_values_are_bit_for_bit_those_of_torchs_module(name: str) -> None:
    z = torch.linspace(-30, 30, 1001)
    assert torch.equal(OPERATORS[name].function(z), TORCH[name](z))


@pytest.mark.parametrize(
    ("name", "z", "value"),
    [
        ("relu", -1.0, 0.0),
        ("relu", 2.5, 2.5),
        ("relu6", 7.0, 6.0),
        ("hardswish", 1.0, 2 / 3),
        ("hardswish", -3.0, 0.0),
        ("swish", 0.0, 0.0),
        ("swish", math.log(3), 0.75 * math.log(3)),
        ("tanhsoft1", 0.0, 0.0),
        ("acon", 0.0, 0.0),
        ("srs", 1.0, 1 / (1 + 1 / math.e)),
        ("srs", -1.0, -1 / (math.e - 1)),
        ("elu", -math.log(2), -0.5),
        ("tanh", math.log(3) / 2, 0.5),
        ("softplus", 0.0, math.log(2)),
        ("logsigmoid", 0.0, -math.log(2)),
        ("symlog", 1 - math.e, -1.0),
        ("symlog", math.e**2 - 1, 2.0),
        ("symexp", -math.log(3), -2.0),
        ("symexp", math.log(2), 1.0),
    ],
)
def test_values_worked_out_by_hand(name: str, z: float, value: float) -> None:
    operator = OPERATORS[name]
    found = applied(operator, torch.tensor(z, dtype=torch.float64), operator.parameters)
    assert found.item() == pytest.approx(value, rel=1e-12, abs=1e-15)


@EVERY
@pytest.mark.parametrize("scale", [-0.5, 2.0])
def test_scales_multiply_before_and_after(operator: Operator, scale: float) -> None:
    activation = ScaledActivation(operator).double()
    with torch.no_grad():
        activation.alpha.fill_(-2.5)
        activation.beta.fill_(scale)
        for name, value in INTERNAL.get(operator.name, {}).items():
            activation.internal[name].fill_(value)
    z = GRID / 2.5
    expected = -2.5 * REFERENCES[operator.name](scale * z, *INTERNAL.get(operator.name, {}).values())
    found = activation(torch.from_numpy(z)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@EVERY
@pytest.mark.parametrize("frozen", [False, True])
def test_scales_start_at_1_where_they_change_nothing(operator: Operator, frozen: bool) -> None:
    activation = ScaledActivation(operator)
    if frozen:
        activation.freeze_scales()
    z = torch.linspace(-5, 5, 101)
    assert torch.equal(activation(z), applied(operator, z, operator.parameters))
    names = ["alpha", "beta", *(f"internal.{name}" for name in operator.parameters)]
    assert {name: value.item() for name, value in activation.state_dict().items()} == pytest.approx(
        dict(zip(names, [1, 1, *operator.parameters.values()], strict=True))
    )


def test_frozen_scales_are_still_applied_and_no_longer_learned() -> None:
    activation = ScaledActivation(OPERATORS["acon"])
    with torch.no_grad():
        activation.alpha.fill_(3.0)
        activation.beta.fill_(0.5)
    z = torch.linspace(-2, 2, 9)
    learned = activation(z)
    activation.freeze_scales()
    frozen = activation(z)
    assert torch.equal(frozen, learned)
    frozen.sum().backward()
    assert activation.alpha.grad is None
    assert activation.beta.grad is None
    assert all(parameter.grad is not None for parameter in activation.internal.values())


@EVERY
@pytest.mark.parametrize("others", [False, True], ids=["initial", "other"])
def test_gradients_are_those_of_the_values(operator: Operator, others: bool) -> None:
    internal = INTERNAL.get(operator.name, {}) if others else operator.parameters
    arguments = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (AWAY_FROM_KINKS, 1.2, 0.9, *internal.values())
    ]

    def scaled(x: Tensor, alpha: Tensor, beta: Tensor, *values: Tensor) -> Tensor:
        return alpha * operator.function(beta * x, *values)

    assert torch.autograd.gradcheck(scaled, arguments)


@EVERY
@pytest.mark.parametrize("z", [0.0, -0.0, 1e-6, -1e-6, 10.0, -10.0, 1e4, -1e4])
def test_values_and_all_gradients_are_finite(operator: Operator, z: float) -> None:
    activation = ScaledActivation(operator)
    x = torch.tensor([z], requires_grad=True)
    value = activation(x)
    value.sum().backward()
    assert value.isfinite().all()
    assert value.dtype == torch.float32
    for tensor in (x, *activation.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@EVERY
@settings(deadline=None, derandomize=True, max_examples=60)
@given(values=st.lists(st.floats(-(2.0**56), 2.0**56, width=32), min_size=1, max_size=8))
def test_any_values_have_finite_results_and_gradients(operator: Operator, values: list[float]) -> None:
    activation = ScaledActivation(operator)
    x = torch.tensor(values, requires_grad=True)
    result = activation(x)
    assert result.shape == x.shape
    assert result.isfinite().all()
    result.sum().backward()
    for tensor in (x, *activation.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@settings(deadline=None, derandomize=True)
@given(z=st.floats(-1e6, 1e6, width=32), a=st.floats(-20, 20, width=32), b=st.floats(-20, 20, width=32))
def test_srs_is_finite_whatever_its_parameters_become(z: float, a: float, b: float) -> None:
    arguments = [torch.tensor(value, requires_grad=True) for value in (z, a, b)]
    value = OPERATORS["srs"].function(*arguments)
    assert value.isfinite()
    for gradient in torch.autograd.grad(value, arguments):
        assert gradient.isfinite()


def test_srs_holds_b_at_two_and_a_half_a() -> None:
    operator, z = OPERATORS["srs"], torch.linspace(-5, 5, 11, dtype=torch.float64)
    bounded = REFERENCES["srs"](z.numpy(), 0.8, 2.0)
    np.testing.assert_allclose(applied(operator, z, {"a": 0.8, "b": 50.0}).numpy(), bounded, rtol=1e-6)


@pytest.mark.parametrize("name", ["symlog", "symexp"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_slope_of_symlog_and_symexp_at_0_is_1(name: str, zero: float) -> None:
    assert slope(OPERATORS[name], zero) == 1
    assert applied(OPERATORS[name], torch.tensor(zero), {}).item() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_symexp_goes_on_as_its_tangent(sign: int) -> None:
    symexp, steepest = OPERATORS["symexp"], math.exp(SYMEXP_BOUND)
    for beyond in (0.0, 0.5, 2.0, 1000.0):
        z = torch.tensor(sign * (SYMEXP_BOUND + beyond), dtype=torch.float64)
        value = applied(symexp, z, {}).item()
        assert value == pytest.approx(sign * (steepest - 1 + steepest * beyond), rel=1e-12)
        assert slope(symexp, z.item()) == pytest.approx(steepest, rel=1e-12)


@settings(deadline=None, derandomize=True)
@given(st.floats(-9, 9))
def test_symlog_undoes_symexp(z: float) -> None:
    there = applied(OPERATORS["symexp"], torch.tensor(z, dtype=torch.float64), {})
    assert applied(OPERATORS["symlog"], there, {}).item() == pytest.approx(z, rel=1e-9, abs=1e-12)


def test_acon_is_not_linear_as_it_starts() -> None:
    operator = OPERATORS["acon"]
    left, right = applied(operator, torch.tensor([-1.0, 1.0], dtype=torch.float64), operator.parameters).tolist()
    assert left + right == pytest.approx(2 * math.tanh(1), rel=1e-6)
    assert slope(operator, 6.0) == pytest.approx(1.2, abs=1e-3)
    assert slope(operator, -6.0) == pytest.approx(-0.8, abs=1e-3)


def test_all_parameters_of_acon_learn_from_where_they_start() -> None:
    activation = ScaledActivation(OPERATORS["acon"])
    activation(torch.tensor([0.7, -0.3])).sum().backward()
    gradients = [parameter.grad.item() for parameter in activation.internal.values() if parameter.grad is not None]
    assert len(set(gradients)) == 3
    assert all(gradient != 0 for gradient in gradients)


@EVERY
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4, 5)])
def test_an_operator_works_element_by_element_on_any_shape(operator: Operator, shape: tuple[int, ...]) -> None:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = applied(operator, z, operator.parameters)
    assert found.shape == shape
    alone = [applied(operator, element, operator.parameters) for element in z.flatten()]
    assert found.flatten().tolist() == pytest.approx([value.item() for value in alone], abs=1e-6)


@EVERY
def test_the_input_is_not_changed(operator: Operator) -> None:
    z = torch.linspace(-5, 5, 11)
    before = z.clone()
    applied(operator, z, operator.parameters)
    assert torch.equal(z, before)


def test_operators_are_found_in_the_order_of_their_names() -> None:
    assert [operator.name for operator in find(["tanh", "relu", "acon"], "key")] == ["tanh", "relu", "acon"]
    assert find([], "key") == []


def test_the_configuration_searches_every_operator() -> None:
    assert SearchSection().operators == tuple(OPERATORS)


def test_an_unknown_operator_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find(["relu", "mish"], "search.operators")
    assert str(refused.value) == f"search.operators=mish: unknown operator; allowed: {', '.join(OPERATORS)}"


def test_an_operator_given_twice_is_told() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find(["relu", "tanh", "relu"], "search.operators")
    assert str(refused.value) == "search.operators=relu: stands twice"
