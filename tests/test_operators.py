from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.config import ConfigurationError, SearchSection
from safs_ray.operators import OPERATORS, SYMEXP_BOUND, Operator, find, lookup

Array = npt.NDArray[np.float64]

INTERNAL: dict[str, dict[str, float]] = {
    "tanhsoft1": {"a": 0.4},
    "acon": {"p1": 0.3, "p2": 1.7, "p3": 0.5},
    "srs": {"a": 3.0, "b": 2.0},
    "tanhsoft2": {"a": 1.7, "b": -0.4},
    "srelu": {"t_l": -1.0, "a_l": -0.3, "t_r": 2.0, "a_r": 1.5},
    "falu": {"p": 1.0, "q": -1.5},
}
"""Values of the internal parameters other than those that they start with."""


def _acon(z: Array, p1: float, p2: float, p3: float) -> Array:
    """The smooth maximum of p1 z and p2 z with switching factor p3, from which ACON-C is derived."""
    first, second = np.exp(p3 * p1 * z), np.exp(p3 * p2 * z)
    maximum: Array = (p1 * z * first + p2 * z * second) / (first + second)
    return maximum


def _falu(z: Array, p: float, q: float) -> Array:
    """Both branches as published, with the parameters mapped to order and steepness."""
    order, steepness = 2 / (1 + math.exp(-p)), 1 + 9 / (1 + math.exp(-q))
    gate = 1 / (1 + np.exp(-steepness * z))
    g = z * gate
    h = g + gate * (1 - g)
    return g + order * gate * (1 - g) if order <= 1 else h + (order - 1) * gate * (1 - 2 * h)


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
    "linear": lambda z: z,
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1)),
    "hardtanh": lambda z: np.clip(z, -1, 1),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "mish": lambda z: z * np.tanh(np.log(1 + np.exp(z))),
    "sin": np.sin,
    "cos": np.cos,
    "elish": lambda z: np.where(z < 0, np.exp(z) - 1, z) / (1 + np.exp(-z)),
    "hard_elish": lambda z: np.where(z < 0, np.exp(z) - 1, z) * np.maximum(0, np.minimum(1, (z + 1) / 2)),
    "tanhsoft2": lambda z, a, b: z * np.tanh(a * np.exp(b * z)),
    "srelu": lambda z, t_l, a_l, t_r, a_r: np.select(
        [z >= t_r, z <= t_l], [t_r + a_r * (z - t_r), t_l + a_l * (z - t_l)], z
    ),
    "falu": _falu,
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
    "linear": nn.Identity(),
    "selu": nn.SELU(),
    "hardtanh": nn.Hardtanh(),
    "sigmoid": nn.Sigmoid(),
    "mish": nn.Mish(),
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
        ("linear", -7.5, -7.5),
        ("hardtanh", -1.5, -1.0),
        ("sigmoid", math.log(3), 0.75),
        ("mish", 0.0, 0.0),
        ("sin", math.pi / 6, 0.5),
        ("cos", 0.0, 1.0),
        ("elish", -math.log(3), -1 / 6),
        ("hard_elish", -math.log(2), -(1 - math.log(2)) / 4),
        ("hard_elish", -1.5, 0.0),
        ("hard_elish", 0.5, 0.375),
        ("tanhsoft2", 0.0, 0.0),
        ("srelu", -2.0, -0.4),
        ("srelu", 0.5, 0.5),
        ("srelu", 3.0, 2.0),
        ("falu", 0.0, 1 / (1 + math.exp(2))),
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
@pytest.mark.parametrize("z", [0.0, -0.0, 1e-6, -1e-6, 10.0, -10.0, 1e4, -1e4, 1e30, -1e30])
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


@pytest.mark.parametrize("name", ["srs", "tanhsoft2", "srelu", "falu"])
@settings(deadline=None, derandomize=True)
@given(z=st.floats(-1e6, 1e6, width=32), values=st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4))
def test_bounded_operators_are_finite_whatever_their_parameters_become(
    name: str, z: float, values: list[float]
) -> None:
    operator = OPERATORS[name]
    internal = values[: len(operator.parameters)]
    arguments = [torch.tensor(value, requires_grad=True) for value in (z, *internal)]
    value = operator.function(*arguments)
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


@pytest.mark.parametrize("name", list(INTERNAL))
def test_all_parameters_learn_from_where_they_start(name: str) -> None:
    activation = ScaledActivation(OPERATORS[name])
    activation(torch.tensor([0.7, -0.3, 1.6])).sum().backward()
    gradients = [parameter.grad.item() for parameter in activation.internal.values() if parameter.grad is not None]
    assert len(set(gradients)) == len(activation.internal)
    assert all(abs(gradient) > 0.01 for gradient in gradients)


@pytest.mark.parametrize(("order", "p"), [(0, -50.0), (1, 0.0), (2, 50.0)])
def test_falu_of_steepness_1_is_the_derivative_of_swish(order: int, p: float) -> None:
    z = torch.linspace(-8, 8, 33, dtype=torch.float64, requires_grad=True)
    derivative = z * torch.sigmoid(z)
    for _ in range(order):
        (derivative,) = torch.autograd.grad(derivative.sum(), z, create_graph=True)
    found = applied(OPERATORS["falu"], z.detach(), {"p": p, "q": -50.0})
    np.testing.assert_allclose(found.numpy(), derivative.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_falu_keeps_its_digits_where_swish_is_large() -> None:
    value = applied(OPERATORS["falu"], torch.tensor(1e7), {"p": 0.0, "q": 0.0})
    assert value.item() == 1, "the first derivative of swish there; z + (1 - z) in float32 is 0"


@pytest.mark.parametrize("p", [-6.0, 6.0])
def test_falu_comes_back_from_the_ends_of_its_range(p: float) -> None:
    arguments = [torch.tensor(value, requires_grad=True) for value in (0.5, p, p)]
    for gradient in torch.autograd.grad(OPERATORS["falu"].function(*arguments), arguments[1:]):
        assert gradient != 0


def test_srelu_holds_its_right_threshold_at_its_left() -> None:
    values = {"t_l": 1.0, "a_l": 0.5, "t_r": -3.0, "a_r": 2.0}
    found = applied(OPERATORS["srelu"], torch.tensor([-4.0, 1.0, 2.0]), values)
    assert found.tolist() == [-1.5, 1.0, 3.0]


def test_linear_gives_a_tensor_of_its_own() -> None:
    z = torch.ones(3)
    OPERATORS["linear"].function(z).add_(1)
    assert z.tolist() == [1, 1, 1]


@EVERY
def test_every_row_is_complete(operator: Operator) -> None:
    assert operator.formula
    assert operator.source
    assert operator.name.isidentifier()
    for name in operator.parameters:
        words = operator.formula.replace("(", " ").replace(")", " ").replace("/", " ").replace("-", " ").split()
        assert name in words


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


def test_the_configuration_searches_relu_and_the_thirteen_of_the_original() -> None:
    assert SearchSection().operators == tuple(OPERATORS)[:14]
    assert tuple(OPERATORS)[13] == "symexp"


def test_an_unknown_operator_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find(["relu", "wish"], "search.operators")
    variants = "prelu, leaky_relu(negative_slope), elu(alpha), celu(alpha), softplus(beta, threshold)"
    variants += ", hardtanh(min_val, max_val), gelu_tanh"
    allowed = f"{', '.join(OPERATORS)}, {variants}, or your own as package.module:function"
    assert str(refused.value) == f"search.operators=wish: unknown operator; allowed: {allowed}"


VARIANTS: dict[str, nn.Module] = {
    "leaky_relu": nn.LeakyReLU(),
    "leaky_relu(0.2)": nn.LeakyReLU(0.2),
    "elu(0.5)": nn.ELU(0.5),
    "celu": nn.CELU(),
    "celu(2)": nn.CELU(2),
    "softplus(2, 20)": nn.Softplus(2),
    "hardtanh(-2, 3)": nn.Hardtanh(-2, 3),
    "gelu_tanh": nn.GELU("tanh"),
    "prelu": nn.PReLU(),
    "prelu(3)": nn.PReLU(3),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_torchs_module_bit_for_bit(name: str) -> None:
    z = torch.cat([torch.linspace(-30, 30, 301), torch.tensor([0.0, -0.0, 1e-6, -1e-6, 1e4, -1e4])])
    z = z.repeat(3, 1).T.contiguous().requires_grad_()
    operator, module = lookup(name), VARIANTS[name]
    given, expected = operator.function(z, *operator.start().values()), module(z)
    assert torch.equal(given, expected)
    assert torch.equal(*(torch.autograd.grad(value.sum(), z)[0] for value in (given, expected)))
    assert operator.name == name


@pytest.mark.parametrize(
    "name", ["leaky_relu(a)", "leaky_relu(1, 2)", "relu(1)", "prelu(0)", "prelu(1)", "elu(", "(1)"]
)
def test_what_is_no_variant_is_unknown(name: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown operator"):
        lookup(name, "search.operators")


def test_variants_can_be_searched_but_those_of_one_number_of_channels() -> None:
    assert [operator.name for operator in find(["leaky_relu(0.1)", "prelu"], "search.operators")]
    with pytest.raises(ConfigurationError) as refused:
        find(["relu", "prelu(3)"], "search.operators")
    assert str(refused.value) == "search.operators=prelu(3): fits sites of 3 channels alone; allowed: prelu"
    with pytest.raises(ConfigurationError, match=r"search\.operators=celu"):
        find(["celu(0)"], "search.operators")


def test_an_operator_given_twice_is_told() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find(["relu", "tanh", "relu"], "search.operators")
    assert str(refused.value) == "search.operators=relu: stands twice"


MINE = """
import torch
from torch.nn import functional as F

def cube(z):
    return z**3

def bump(z, width=1.0, power=2, *, height=0.5):
    assert isinstance(width, torch.Tensor) and isinstance(power, int)
    return height * torch.exp(-(z / width).abs() ** power)

def shorter(z):
    return z[..., 1:]

def rounded(z):
    return z.round()

def counted(z):
    return z > 0

def detached(z):
    return torch.tanh(z).detach()

def exploding(z):
    return torch.exp(z)

def vertical(z):
    return torch.sqrt(z.abs())

def normalised(z):
    return z - z.mean()

def random(z):
    return F.dropout(z)

def in_place(z):
    return z.relu_()

def misspelled(z):
    return torch.tahn(z)

def undefined(z, a=0.0):
    return z + torch.where(a > 0, torch.zeros(()), torch.sqrt(a))

def nothing():
    return 1.0
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a user's module."""
    folder = tmp_path_factory.mktemp("operators")
    (folder / "operators_of_mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "operators_of_mine"


class TestOfAUser:
    def test_a_function_is_an_operator_of_that_name(self, mine: str) -> None:
        operator = lookup(f"{mine}:cube")
        assert operator.name == f"{mine}:cube"
        assert operator.parameters == {}
        assert operator.function(torch.tensor([-2.0, 3.0])).tolist() == [-8, 27]
        assert lookup(f"{mine}:cube") is operator
        assert [found.name for found in find(["relu", f"{mine}:cube"], "key")] == ["relu", f"{mine}:cube"]

    def test_arguments_whose_defaults_are_floats_are_learned(self, mine: str) -> None:
        operator = lookup(f"{mine}:bump")
        assert operator.parameters == {"width": 1.0, "height": 0.5}
        activation = ScaledActivation(operator)
        assert set(activation.state_dict()) == {"alpha", "beta", "internal.width", "internal.height"}
        z = torch.tensor([-1.0, 2.0])
        value = activation(z)
        assert value.tolist() == pytest.approx([0.5 * math.exp(-1), 0.5 * math.exp(-4)])
        value.sum().backward()
        for parameter in activation.parameters():
            assert parameter.grad is not None
            assert parameter.grad != 0

    @pytest.mark.parametrize("name", ["torch:erf", "torch.nn.functional:softsign"])
    def test_functions_of_torch_will_do(self, name: str) -> None:
        assert lookup(name).function(torch.tensor([0.0])).item() == 0

    def test_it_is_tried_where_gradients_are_off(self) -> None:
        with torch.inference_mode():
            assert lookup("torch:atan").parameters == {}

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            ("shorter", "must map a float tensor to a float tensor of the same shape"),
            ("counted", "must map a float tensor to a float tensor of the same shape"),
            ("rounded", "has a gradient of 0 everywhere"),
            ("detached", "has no gradient"),
            ("exploding", "is not finite, or its gradient is not, at 10000; must be for z from -1e4 to 1e4"),
            ("vertical", "is not finite, or its gradient is not, at 0; must be for z from -1e4 to 1e4"),
            ("undefined", "has a parameter whose gradient is not finite; must be for z from -1e4 to 1e4"),
            ("normalised", "must work element by element, the same way every time"),
            ("random", "must work element by element, the same way every time"),
            ("in_place", "fails on a tensor (1, 3, 3, 1): RuntimeError: "),
            ("misspelled", "fails on a tensor (1, 3, 3, 1): AttributeError: module 'torch' has no attribute 'tahn'"),
            ("nothing", "fails on a tensor (1, 3, 3, 1): TypeError: "),
            ("missing", "operators_of_mine has no function missing"),
        ],
    )
    def test_what_is_no_operator_is_refused_in_one_line(self, mine: str, function: str, reason: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            find(["relu", f"{mine}:{function}"], "search.operators")
        assert str(refused.value).startswith(f"search.operators={mine}:{function}: {reason}")
        assert "\n" not in str(refused.value)

    def test_a_setting_that_cannot_be_learned_is_told(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            lookup("torch.nn.functional:leaky_relu")
        given = "fails on a tensor (1, 3, 3, 1) and tensors for negative_slope: TypeError: "
        assert str(refused.value).startswith(f"operator=torch.nn.functional:leaky_relu: {given}")

    def test_no_module_is_imported_for_names_of_which_one_is_wrong(self, mine: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^search\.operators=tan: unknown operator"):
            find(["nowhere_at_all:f", f"{mine}:missing", "tan"], "search.operators")

    def test_one_given_twice_is_told(self, mine: str) -> None:
        with pytest.raises(ConfigurationError, match="cube: stands twice"):
            find([f"{mine}:cube", f"{mine}:cube"], "search.operators")
