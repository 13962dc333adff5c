"""A row of LANES images as one vector, in loops that numba compiles: its type and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_model

from safs_ray.sparse import vectors

Floats = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 32
"""Images in a block: a row is two cache lines of float32, two AVX-512 registers or four of AVX2."""


def compiled(function: Function) -> Function:
    """Compile on first use for the types that are given; cached where a folder can be written to.

    A cache is as old as the function's own file: who changes a kernel that another file calls removes ``*.nbi``.
    """
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba finds no folder for its cache
        return cast(Function, numba.njit(nogil=True)(function))


class Lanes(types.Type):
    """numba's type of one row's vector, which lives in registers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, LANES))  # type: ignore[no-untyped-call]


def operation(typing: Callable[..., Any]) -> Callable[..., Any]:
    """A function of compiled code, written as the LLVM instructions that it stands for."""
    return cast(Callable[..., Any], intrinsic(typing))


def _row(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """Pointer to a row of an array (..., LANES) whose rows are counted through all blocks."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_data_type(array_type.dtype), LANES)
    return builder.gep(builder.bitcast(data, vector.as_pointer()), [row])


@operation
def load(_: Any, array: Any, row: Any) -> Any:  # noqa: ARG001
    """The vector of a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_row(context, builder, signature.args[0], *arguments))
        value.align = signature.args[0].dtype.bitwidth // 8  # arrays of numpy promise no more
        return value

    return Lanes(array.dtype)(array, types.intp), generate


@operation
def store(_: Any, array: Any, row: Any, value: Any) -> Any:  # noqa: ARG001
    """Write a vector to a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _row(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place).align = signature.args[0].dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@operation
def entry(_: Any, array: Any, place: Any) -> Any:  # noqa: ARG001
    """The entry of an array without gaps at a place, counted through all axes, that is not negative.

    Of any other index numba asks its sign, which takes as long as the product that the entry is for.
    """
    if array.layout != "C":
        raise TypingError(f"an array of layout {array.layout}, not C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]], inbounds=True))
        return context.cast(builder, value, signature.args[0].dtype, signature.return_type)

    kind = types.intp if isinstance(array.dtype, types.Integer) else array.dtype
    return kind(array, types.intp), generate


@operation
def spread(_: Any, value: Any) -> Any:
    """The vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(context.get_data_type(signature.return_type), ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, _picked(range(0, 1), LANES))

    return Lanes(value)(value), generate


def of_vectors(write: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on vectors of one type, which is its result's, too: the instructions of a builder."""

    @wraps(write)  # numba reads the arguments' names, and takes the first for its own
    def typing(_: Any, *kinds: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return write(builder, *arguments)

        return kinds[0](*kinds), generate

    return operation(typing)


@of_vectors
def plus_product(builder: Any, total: Any, one: Any, other: Any) -> Any:
    """total + one * other, rounded once where the processor can."""
    return builder.fadd(total, builder.fmul(one, other, flags=["contract"]), flags=["contract"])


@of_vectors
def plus(builder: Any, one: Any, other: Any) -> Any:
    """one + other."""
    return builder.fadd(one, other)


@of_vectors
def times(builder: Any, one: Any, other: Any) -> Any:
    """one * other."""
    return builder.fmul(one, other)


@of_vectors
def minus(builder: Any, one: Any, other: Any) -> Any:
    """one - other."""
    return builder.fsub(one, other)


@of_vectors
def over(builder: Any, one: Any, other: Any) -> Any:
    """one / other."""
    return builder.fdiv(one, other)


@of_vectors
def exponential(builder: Any, value: Any) -> Any:
    """e to the power of every lane; below 1e-38 for what is under -88."""
    return vectors.exp(vectors.Vector(builder, value)).bits


@of_vectors
def logarithm(builder: Any, value: Any) -> Any:
    """ln of every lane, for numbers from 1 on."""
    return vectors.log1p(vectors.Vector(builder, value) - 1).bits


@of_vectors
def larger(builder: Any, one: Any, other: Any) -> Any:
    """The larger of two; NaN where either is."""
    taken = builder.or_(builder.fcmp_ordered(">", other, one), builder.fcmp_unordered("uno", other, other))
    return builder.select(taken, other, one)


@of_vectors
def where_equal(builder: Any, one: Any, other: Any, value: Any) -> Any:
    """``value`` where one equals the other, else 0."""
    return builder.select(builder.fcmp_ordered("==", one, other), value, ir.Constant(value.type, None))


@operation
def sum_of(_: Any, value: Any) -> Any:
    """The sum of a vector, halves added to halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        part, width = arguments[0], LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(part.type, ir.Undefined)
            low = builder.shuffle_vector(part, undefined, _picked(range(width)))
            high = builder.shuffle_vector(part, undefined, _picked(range(width, 2 * width)))
            part = builder.fadd(low, high)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return value.dtype(value), generate


def _picked(lanes: range, times: int = 1) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), times * len(lanes)), list(lanes) * times)
