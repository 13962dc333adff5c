"""Operators as compiled code: f(x) = alpha g(beta x) and its gradients.

What is compiled is the operator's own definition, a user's as well as the table's: its function is called once, with
symbols in place of tensors. An operator that calls for what has no rule is left to torch.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core.cgutils import for_range

from safs_ray.operators import lookup
from safs_ray.sparse import native
from safs_ray.sparse.definitions import applied
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.symbols import Symbol
from safs_ray.sparse.vectors import Vector

SCALES = ("alpha", "beta")
"""The first parameters of every activation; those of its operator follow."""


class OperatorCode(NamedTuple):
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
def compiled(name: str, single: bool) -> OperatorCode:
    """The code of the operator of a name, for float32 or for float64.

    Raises:
        NotCompilableError: it does what has no rule.
    """
    module = ir.Module(name=name)
    element = ir.FloatType() if single else ir.DoubleType()
    _ahead(module, name, element)
    _both(module, name, element)
    _back(module, name, element)
    return OperatorCode(**native.load(str(module), OperatorCode._fields))


def _ahead(module: ir.Module, name: str, element: ir.Type) -> None:
    code = Routine(module, "ahead", 4, element)
    out, source, parameters, rows = code.arguments
    activation = ActivationCode(name, code, parameters)
    with for_range(code.builder, rows) as loop:
        code.store(out, loop.index, activation.value(code.load(source, loop.index)))
    code.builder.ret_void()


def _both(module: ir.Module, name: str, element: ir.Type) -> None:
    code = Routine(module, "both", 5, element)
    out, slopes, source, parameters, rows = code.arguments
    activation = ActivationCode(name, code, parameters)
    with for_range(code.builder, rows) as loop:
        value, slope = activation.value_and_slope(code.load(source, loop.index))
        code.store(out, loop.index, value)
        code.store(slopes, loop.index, slope)
    code.builder.ret_void()


def _back(module: ir.Module, name: str, element: ir.Type) -> None:
    code = Routine(module, "back", 6, element)
    out, gradient, source, parameters, sums, rows = code.arguments
    activation = ActivationCode(name, code, parameters)
    with for_range(code.builder, rows) as loop:
        x, given = code.load(source, loop.index), code.load(gradient, loop.index)
        of_source, of_parameters = activation.gradients(x, given)
        code.store(out, loop.index, of_source)
        for row, own in enumerate(of_parameters):
            if own:
                place = ir.Constant(ir.IntType(64), row)
                code.store(sums, place, code.load(sums, place) + own)
    code.builder.ret_void()


class ActivationCode:
    """The code of f(x) = alpha g(beta x) within a routine.

    Args:
        parameters: address of alpha, beta and g's internal parameters.

    Attributes:
        parameters: how many these are.
    """

    def __init__(self, name: str, routine: Routine, parameters: ir.Value) -> None:
        self._operator = lookup(name)
        self.parameters = len(SCALES) + len(self._operator.parameters)
        self._alpha, self._beta, *self._internal = routine.numbers(parameters, self.parameters)

    def value(self, x: Vector) -> Vector:
        value: Vector = self._alpha * self._at(x).value
        return value

    def value_and_slope(self, x: Vector) -> tuple[Vector, Vector]:
        found = self._at(x)
        slope = found.slopes[0]
        return self._alpha * found.value, self._alpha * slope * self._beta if slope else x.of(0)

    def gradients(self, x: Vector, given: Vector) -> tuple[Vector, list[Vector | None]]:
        """Those of x and of every parameter, given that of f; None for 0."""
        found = self._at(x)
        slope, *of_internal = found.slopes
        scaled = given * self._alpha
        through = scaled * slope if slope else x.of(0)
        of_scales = [given * found.value, through * x]
        return through * self._beta, [*of_scales, *(scaled * each if each else None for each in of_internal)]

    def _at(self, x: Vector) -> Symbol:
        """g's value at beta x, with its derivatives."""
        inputs = [self._beta * x, *self._internal]
        symbols = [
            Symbol(value, [value.of(1) if place == own else None for place in range(len(inputs))])
            for own, value in enumerate(inputs)
        ]
        return applied(self._operator, symbols)


class Routine:
    """A function that is being written, of so many integers of 64 bits."""

    def __init__(self, module: ir.Module, name: str, arguments: int, element: ir.Type) -> None:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * arguments)
        function = ir.Function(module, kind, name)
        self.builder = ir.IRBuilder(function.append_basic_block())
        self.arguments = function.args
        self._element = element

    @property
    def nothing(self) -> Vector:
        """0 in all lanes."""
        return Vector(self.builder, ir.Constant(ir.VectorType(self._element, LANES), None))

    def numbers(self, address: ir.Value, count: int, start: ir.Value | None = None) -> list[Vector]:
        """So many numbers of an array from one on, the first by default, each in all lanes of a vector."""
        first = self.builder.inttoptr(address, self._element.as_pointer())
        first = first if start is None else self.builder.gep(first, [start])
        vector, lane = ir.VectorType(self._element, LANES), ir.IntType(32)
        same = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        found = []
        for index in range(count):
            number = self.builder.load(self.builder.gep(first, [ir.Constant(lane, index)]))
            undefined = ir.Constant(vector, ir.Undefined)
            one = self.builder.insert_element(undefined, number, ir.Constant(lane, 0))
            found.append(Vector(self.builder, self.builder.shuffle_vector(one, undefined, same)))
        return found

    def whole(self, address: ir.Value, place: ir.Value) -> ir.Value:
        """A number of an array of integers of 64 bits."""
        return self.builder.load(self.builder.gep(self.builder.inttoptr(address, place.type.as_pointer()), [place]))

    def load(self, address: ir.Value, row: ir.Value) -> Vector:
        return Vector(self.builder, self.builder.load(self._row(address, row), align=self._bytes))

    def store(self, address: ir.Value, row: ir.Value, value: Any) -> None:
        self.builder.store(value.bits, self._row(address, row), align=self._bytes)

    def store_sum(self, address: ir.Value, place: ir.Value, value: Vector) -> None:
        """Write the sum of a vector, halves added to halves, as one number of an array."""
        builder, part, lane = self.builder, value.bits, ir.IntType(32)
        while part.type.count > 1:
            half, nothing = part.type.count // 2, ir.Constant(part.type, ir.Undefined)
            halves = [ir.Constant(ir.VectorType(lane, half), list(range(at, at + half))) for at in (0, half)]
            part = builder.fadd(*(builder.shuffle_vector(part, nothing, each) for each in halves))
        array = builder.inttoptr(address, self._element.as_pointer())
        builder.store(builder.extract_element(part, ir.Constant(lane, 0)), builder.gep(array, [place]))

    @property
    def _bytes(self) -> int:
        return 4 if isinstance(self._element, ir.FloatType) else 8

    def _row(self, address: ir.Value, row: ir.Value) -> ir.Value:
        rows = self.builder.inttoptr(address, ir.VectorType(self._element, LANES).as_pointer())
        return self.builder.gep(rows, [row])
