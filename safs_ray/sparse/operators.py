"""Operators as compiled code: f(x) = alpha g(beta x) and its gradients.

What is compiled is the operator's own definition, a user's as well as the table's: its function is called once, with
symbols in place of tensors. A symbol is the code of a value and of its derivatives; every function of torch that meets
one adds to both, by a rule of this file. An operator that calls for what has no rule is left to torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.cgutils import for_range

from safs_ray.operators import lookup
from safs_ray.sparse import vectors
from safs_ray.sparse.kernels import LANES
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
    if approximate != "none":
        raise NotCompilableError(f"gelu by {approximate}")
    erf, decay = vectors.erf_and_decay(x * math.sqrt(0.5))
    below = 0.5 * (1 + erf)
    return x * below, (below + x * decay * (1 / math.sqrt(2 * math.pi)),)


@rule("elu")
def _elu(x: Vector, alpha: float = 1.0, inplace: bool = False) -> tuple[Vector, Partials]:  # noqa: ARG001
    left = alpha * vectors.expm1(x.most(0))
    right = x.compared(">", 0)
    return right.where(x, left), (right.where(1, left + alpha),)


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


class Compiled(NamedTuple):
    """Addresses of an operator's code.

    Its arguments are integers of 64 bits: addresses of arrays (rows, LANES), and how many rows there are.

    Attributes:
        ahead: ``(out, source, parameters, rows)`` writes f of the source. ``parameters`` are alpha, beta and the
            internal parameters.
        both: ``(out, slopes, source, parameters, rows)`` writes the derivative by the source, too.
        back: ``(out, gradient, source, parameters, sums, rows)`` writes the gradient of the source, given that of f,
            and adds that of each parameter, still by lane, to its row of ``sums``.
    """

    ahead: int
    both: int
    back: int


@cache
def compiled(name: str, single: bool) -> Compiled:
    """The code of the operator of a name, for float32 or for float64.

    Raises:
        NotCompilableError: it does what has no rule.
    """
    module = ir.Module(name=name)
    element = ir.FloatType() if single else ir.DoubleType()
    _ahead(module, name, element)
    _both(module, name, element)
    _back(module, name, element)
    engine = _engine(str(module))
    return Compiled(*(engine.get_function_address(function) for function in Compiled._fields))


def _ahead(module: ir.Module, name: str, element: ir.Type) -> None:
    code = _Code(module, "ahead", 4, element)
    out, source, parameters, rows = code.arguments
    alpha, beta, *internal = code.numbers(parameters, 2 + len(lookup(name).parameters))
    with for_range(code.builder, rows) as loop:
        x = code.load(source, loop.index)
        code.store(out, loop.index, alpha * _value(name, beta * x, internal).value)
    code.builder.ret_void()


def _both(module: ir.Module, name: str, element: ir.Type) -> None:
    code = _Code(module, "both", 5, element)
    out, slopes, source, parameters, rows = code.arguments
    alpha, beta, *internal = code.numbers(parameters, 2 + len(lookup(name).parameters))
    with for_range(code.builder, rows) as loop:
        x = code.load(source, loop.index)
        found = _value(name, beta * x, internal)
        code.store(out, loop.index, alpha * found.value)
        slope = found.slopes[0]
        code.store(slopes, loop.index, alpha * slope * beta if slope else x.of(0))
    code.builder.ret_void()


def _back(module: ir.Module, name: str, element: ir.Type) -> None:
    code = _Code(module, "back", 6, element)
    out, gradient, source, parameters, sums, rows = code.arguments
    alpha, beta, *internal = code.numbers(parameters, 2 + len(lookup(name).parameters))
    with for_range(code.builder, rows) as loop:
        x, given = code.load(source, loop.index), code.load(gradient, loop.index)
        found = _value(name, beta * x, internal)
        slope, *of_internal = found.slopes
        scaled = given * alpha
        through = scaled * slope if slope else x.of(0)
        code.store(out, loop.index, through * beta)
        of_parameters = [given * found.value, through * x, *(scaled * each if each else None for each in of_internal)]
        for row, own in enumerate(of_parameters):
            if own:
                place = ir.Constant(ir.IntType(64), row)
                code.store(sums, place, code.load(sums, place) + own)
    code.builder.ret_void()


def _value(name: str, z: Vector, internal: Sequence[Vector]) -> Symbol:
    """An operator's value at z, with its derivatives."""
    inputs = [z, *internal]
    symbols = [
        Symbol(value, [value.of(1) if place == own else None for place in range(len(inputs))])
        for own, value in enumerate(inputs)
    ]
    try:
        found = lookup(name).function(*symbols)
    except Exception as error:  # a user's function, which may do anything with what is no tensor
        raise NotCompilableError(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Symbol) or not isinstance(found.value, Vector):
        raise NotCompilableError(f"{name} gives no value")
    return found


class _Code:
    """A function that is being written, of so many integers of 64 bits."""

    def __init__(self, module: ir.Module, name: str, arguments: int, element: ir.Type) -> None:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * arguments)
        function = ir.Function(module, kind, name)
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.arguments = function.args
        self._element = element

    def numbers(self, address: ir.Value, count: int) -> list[Vector]:
        """The first numbers of an array, each in all lanes of a vector."""
        first = self.builder.inttoptr(address, self._element.as_pointer())
        vector, lane = ir.VectorType(self._element, LANES), ir.IntType(32)
        same = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        found = []
        for index in range(count):
            number = self.builder.load(self.builder.gep(first, [ir.Constant(lane, index)]))
            undefined = ir.Constant(vector, ir.Undefined)
            one = self.builder.insert_element(undefined, number, ir.Constant(lane, 0))
            found.append(Vector(self.builder, self.builder.shuffle_vector(one, undefined, same)))
        return found

    def load(self, address: ir.Value, row: ir.Value) -> Vector:
        return Vector(self.builder, self.builder.load(self._row(address, row), align=self._bytes))

    def store(self, address: ir.Value, row: ir.Value, value: Any) -> None:
        self.builder.store(value.bits, self._row(address, row), align=self._bytes)

    @property
    def _bytes(self) -> int:
        return 4 if isinstance(self._element, ir.FloatType) else 8

    def _row(self, address: ir.Value, row: ir.Value) -> ir.Value:
        rows = self.builder.inttoptr(address, ir.VectorType(self._element, LANES).as_pointer())
        return self.builder.gep(rows, [row])


_ENGINES: list[Any] = []
"""They own the code, which must stay."""


def _engine(code: str) -> Any:
    """The code of a module, optimised for this processor."""
    module = llvm.parse_assembly(code)
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    return engine
