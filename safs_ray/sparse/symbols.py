"""Symbols in place of tensors: calling an operator's function with them writes its code, and that of its gradients.

A symbol is the code of a value and of its derivatives; every function of torch that meets one adds to both, by a rule
of this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from safs_ray.sparse import vectors
from safs_ray.sparse.vectors import Condition, Vector

Partials = Sequence[Any]
"""A function's derivatives by its arguments, each a vector or a number; None for a condition."""

Rule = Callable[..., tuple[Any, Partials]]


class NotCompilableError(Exception):
    """An operator does what has no rule."""


class Symbol:
    """A value of an operator that is being compiled.

    Attributes:
        value: its code, a vector or a condition.
        slopes: the code of its derivatives by z and by every internal parameter; None for 0.
    """

    def __init__(self, value: Any, slopes: Sequence[Vector | None]) -> None:
        self.value, self.slopes = value, tuple(slopes)

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Symbol:
        return applied(function.__name__, *arguments, **(named or {}))

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        if name not in RULES:
            raise NotCompilableError(name)
        return lambda *arguments, **named: applied(name, self, *arguments, **named)

    def __bool__(self) -> bool:
        raise NotCompilableError("a condition on a value")


def _method(name: str, *, swapped: bool = False) -> Callable[..., Symbol]:
    if swapped:
        return lambda self, other: applied(name, other, self)
    return lambda self, *other: applied(name, self, *other)


for _name in ("add", "sub", "mul", "truediv", "pow", "neg", "abs", "lt", "le", "gt", "ge"):
    setattr(Symbol, f"__{_name}__", _method(_name))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(Symbol, f"__r{_name}__", _method(_name, swapped=True))


def applied(name: str, *arguments: Any, **named: Any) -> Symbol:
    """A function of torch, by its name, of symbols, numbers and options.

    Raises:
        NotCompilableError: it has no rule.
    """
    if name not in RULES:
        raise NotCompilableError(name)
    everything = [*arguments, *named.values()]
    values = [each.value if isinstance(each, Symbol) else each for each in everything]
    named_values = dict(zip(named, values[len(arguments) :], strict=True))
    value, partials = RULES[name](*values[: len(arguments)], **named_values)
    pairs = zip(everything, partials, strict=False)
    symbols = [(each, partial) for each, partial in pairs if isinstance(each, Symbol) and partial is not None]
    inputs = next(len(each.slopes) for each in everything if isinstance(each, Symbol))
    return Symbol(value, [_total([(each.slopes[i], partial) for each, partial in symbols]) for i in range(inputs)])


def _total(terms: Sequence[tuple[Vector | None, Any]]) -> Vector | None:
    """The chain rule: the sum of slopes times partial derivatives."""
    products = [
        slope if isinstance(partial, float) and partial == 1 else slope * partial
        for slope, partial in terms
        if slope is not None
    ]
    return sum(products[1:], start=products[0]) if products else None


RULES: dict[str, Rule] = {}
"""By the name of a function of torch: its value and its partial derivatives, those that torch's own backward takes."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """The rule of the functions of these names."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def _one(condition: Condition) -> Vector:
    """1 where a condition holds, else 0."""
    return condition.where(1, 0)


@rule("add")
def _add(x: Any, y: Any) -> tuple[Vector, Partials]:
    return x + y, (1.0, 1.0)


@rule("sub")
def _sub(x: Any, y: Any) -> tuple[Vector, Partials]:
    return x - y, (1.0, -1.0)


@rule("mul")
def _mul(x: Any, y: Any) -> tuple[Vector, Partials]:
    return x * y, (y, x)


@rule("div", "truediv")
def _div(x: Any, y: Any) -> tuple[Vector, Partials]:
    quotient = x / y
    return quotient, (1 / y, -quotient / y)


@rule("neg")
def _neg(x: Vector) -> tuple[Vector, Partials]:
    return -x, (-1.0,)


@rule("clone")
def _clone(x: Vector) -> tuple[Vector, Partials]:
    return x, (1.0,)


@rule("pow")
def _pow(x: Vector, power: float) -> tuple[Vector, Partials]:
    if power not in range(2, 9):
        raise NotCompilableError(f"the power {power}")
    below = math.prod([x] * (int(power) - 2), start=x)
    return below * x, (below * float(power),)


@rule("square")
def _square(x: Vector) -> tuple[Vector, Partials]:
    return _pow(x, 2)


@rule("abs")
def _abs(x: Vector) -> tuple[Vector, Partials]:
    return x.magnitude(), (_one(x.compared(">", 0)) - _one(x.compared("<", 0)),)


def _compared(sign: str, x: Vector, y: Vector | float) -> tuple[Condition, Partials]:
    return x.compared(sign, y), ()


RULES |= {name: partial(_compared, sign) for name, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))}


@rule("where")
def _where(condition: Condition, x: Any, y: Any) -> tuple[Vector, Partials]:
    taken = _one(condition)
    return condition.where(x, y), (None, taken, 1 - taken)


def _extreme(sign: str, x: Vector, y: Vector) -> tuple[Vector, Partials]:
    """Equal values share the derivative."""
    taken, unknown = x.compared(sign, y), x.compared("!=", x)
    half = _one(x.compared("==", y)) * 0.5
    first = _one(taken) + half
    return unknown.where(x, taken.where(x, y)), (first, 1 - first)


RULES |= {"minimum": partial(_extreme, "<"), "maximum": partial(_extreme, ">")}


@rule("clamp")
def _clamp(x: Vector, min: float | None = None, max: float | None = None) -> tuple[Vector, Partials]:
    low, high = -math.inf if min is None else min, math.inf if max is None else max
    inside = x.compared(">", low) & x.compared("<", high)
    return x.least(low).most(high), (_one(inside),)


@rule("relu")
def _relu(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    return x.least(0), (_one(x.compared(">", 0)),)


@rule("relu6")
def _relu6(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:
    return _hardtanh(x, 0.0, 6.0, inplace)


@rule("hardtanh")
def _hardtanh(
    x: Vector,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,  # noqa: ARG001
) -> tuple[Vector, Partials]:
    inside = x.compared(">", min_val) & x.compared("<", max_val)
    return x.least(min_val).most(max_val), (_one(inside),)


@rule("hardsigmoid")
def _hardsigmoid(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    inside = x.compared(">", -3) & x.compared("<", 3)
    return (x + 3).least(0).most(6) / 6, (inside.where(1 / 6, 0),)


@rule("hardswish")
def _hardswish(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    slope = x.compared("<", 3).where(x / 3 + 0.5, 1)
    return x * (x + 3).least(0).most(6) / 6, (x.compared("<=", -3).where(0, slope),)


@rule("silu")
def _silu(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    gate = vectors.sigmoid(x)
    return x * gate, (gate * (1 + x * (1 - gate)),)


@rule("gelu")
def _gelu(x: Vector, approximate: str = "none") -> tuple[Vector, Partials]:
    if approximate == "tanh":
        return _gelu_by_tanh(x)
    erf, decay = vectors.erf_and_decay(x * math.sqrt(0.5))
    below = 0.5 * (1 + erf)
    return x * below, (below + x * decay * (1 / math.sqrt(2 * math.pi)),)


def _gelu_by_tanh(x: Vector) -> tuple[Vector, Partials]:
    factor, cubic = math.sqrt(2 / math.pi), 0.044715
    curve = vectors.tanh(factor * (x + cubic * x * x * x))
    below, slope = 0.5 * (1 + curve), factor * (1 + 3 * cubic * x * x)
    return x * below, (below + 0.5 * x * (1 - curve * curve) * slope,)


@rule("elu")
def _elu(x: Vector, alpha: float = 1.0, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    left = alpha * vectors.expm1(x.most(0))
    right = x.compared(">", 0)
    return right.where(x, left), (right.where(1, left + alpha),)


@rule("celu")
def _celu(x: Vector, alpha: float = 1.0, inplace: bool = False) -> tuple[Vector, Partials]:
    value, (slope,) = _elu(x / alpha, alpha, inplace)
    right = x.compared(">", 0)
    return right.where(x, value), (right.where(1, slope / alpha),)


@rule("selu")
def _selu(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:
    scale = 1.0507009873554804934193349852946
    value, (slope,) = _elu(x, 1.6732632423543772848170429916717, inplace)
    return scale * value, (scale * slope,)


@rule("tanh")
def _tanh(x: Vector) -> tuple[Vector, Partials]:
    value = vectors.tanh(x)
    return value, (1 - value * value,)


@rule("sigmoid")
def _sigmoid(x: Vector) -> tuple[Vector, Partials]:
    value = vectors.sigmoid(x)
    return value, (value * (1 - value),)


@rule("softplus")
def _softplus(x: Vector, beta: float = 1.0, threshold: float = 20.0) -> tuple[Vector, Partials]:
    scaled = x * beta
    linear = scaled.compared(">", threshold)
    value, slope = vectors.softplus_and_sigmoid(scaled)
    return linear.where(x, value / beta), (linear.where(1, slope),)


@rule("log_sigmoid", "logsigmoid")
def _logsigmoid(x: Vector) -> tuple[Vector, Partials]:
    value, slope = vectors.softplus_and_sigmoid(-x)
    return -value, (slope,)


@rule("mish")
def _mish(x: Vector, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    grown, slope = vectors.softplus_and_sigmoid(x)
    gate = vectors.tanh(grown)
    return x * gate, (gate + x * (1 - gate * gate) * slope,)


@rule("exp")
def _exp(x: Vector) -> tuple[Vector, Partials]:
    value = vectors.exp(x)
    return value, (value,)


@rule("expm1")
def _expm1(x: Vector) -> tuple[Vector, Partials]:
    value = vectors.expm1(x)
    return value, (value + 1,)


@rule("log1p")
def _log1p(x: Vector) -> tuple[Vector, Partials]:
    return vectors.log1p(x), (1 / (1 + x),)


@rule("erf")
def _erf(x: Vector) -> tuple[Vector, Partials]:
    value, decay = vectors.erf_and_decay(x)
    return value, (decay * (2 / math.sqrt(math.pi)),)


@rule("sin")
def _sin(x: Vector) -> tuple[Vector, Partials]:
    return x.by_lane("sin"), (x.by_lane("cos"),)


@rule("cos")
def _cos(x: Vector) -> tuple[Vector, Partials]:
    return x.by_lane("cos"), (-x.by_lane("sin"),)


@rule("sqrt")
def _sqrt(x: Vector) -> tuple[Vector, Partials]:
    value = x.by_lane("sqrt")
    return value, (0.5 / value,)
