"""What follows the statistics of a batch normalisation, as code that goes over a value once.

The tail scales and shifts each channel, may add another value, applies an activation and may take the largest of
windows. Ahead it reads what is normalised and writes what comes out at its end; nothing between them is kept. The way
back computes it again, which takes less time than to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core.cgutils import for_range

from safs_ray.sparse import native
from safs_ray.sparse.operators import ActivationCode, Routine
from safs_ray.sparse.vectors import Vector

IDENTITY = "linear"
"""The operator of a tail without an activation."""

SUMS = 2
"""Of every channel: the gradients behind the scaling, and their products with the source less its mean."""


@dataclass(frozen=True)
class Tail:
    """What one tail does.

    Attributes:
        operator: of the activation, one that can be compiled.
        adds: whether another value of the same shape is added before the activation.
        places: of a window whose largest is taken behind the activation; 0: no pooling.
    """

    operator: str = IDENTITY
    adds: bool = False
    places: int = 0


class Code(NamedTuple):
    """A tail's functions, which run beside other threads, of integers of 64 bits.

    ``other`` is what a tail adds; ``windows`` (pooled pixels, places), of 64 bits, what one that pools takes: pixels of
    a plane, each in one window, once. ``factors`` (channels, 3) are each channel's factor, summand and mean; ``begin``
    and ``end`` count channels; planes have ``pixels``, and ``written`` of them at the tail's end.

    Attributes:
        ahead: ``(out, source, other, windows, parameters, factors, begin, end, pixels, written)`` writes the value.
        back: ``(out, gradient, source, other, sums, windows, parameters, factors, begin, end, pixels, written)``
            writes the gradient in front of the activation, and of each channel its :data:`SUMS` and the gradient of
            each parameter to ``sums`` (channels, SUMS + parameters).
        back_frozen: the same without the gradients of parameters, the last of ``sums``.
    """

    ahead: Callable[..., None]
    back: Callable[..., None]
    back_frozen: Callable[..., None]


ARGUMENTS = {"ahead": 10, "back": 12, "back_frozen": 12}


@cache
def code_of(tail: Tail, dtype: np.dtype[np.floating]) -> Code:
    """The code of a tail.

    Raises:
        NotCompilableError: its operator does what has no rule.
    """
    module = ir.Module(name=tail.operator)
    element = ir.FloatType() if dtype == np.float32 else ir.DoubleType()
    _ahead(Routine(module, "ahead", ARGUMENTS["ahead"], element), tail)
    _back(Routine(module, "back", ARGUMENTS["back"], element), tail, learns=True)
    _back(Routine(module, "back_frozen", ARGUMENTS["back_frozen"], element), tail, learns=False)
    addresses = native.load(str(module), Code._fields)
    return Code(**{name: native.function(addresses[name], count) for name, count in ARGUMENTS.items()})


def _ahead(routine: Routine, tail: Tail) -> None:
    out, source, other, windows, parameters, factors, begin, end, pixels, written = routine.arguments
    builder, activation = routine.builder, ActivationCode(tail.operator, routine, parameters)
    with for_range(builder, end, begin) as channel:
        factor, summand = routine.numbers(factors, 2, builder.mul(channel.index, ir.IntType(64)(3)))
        first, first_written = builder.mul(channel.index, pixels), builder.mul(channel.index, written)
        with for_range(builder, written) as pixel:
            rows = _rows(routine, tail, windows, first, pixel.index)
            sources = [routine.load(source, row) for row in rows]
            scaled = _scaled(routine, tail, sources, other, rows, factor, summand)
            found = _largest([activation.value(each) for each in scaled])
            routine.store(out, builder.add(first_written, pixel.index), found)
    builder.ret_void()


def _back(routine: Routine, tail: Tail, *, learns: bool) -> None:
    out, gradient, source, other, sums, windows, parameters, factors, begin, end, pixels, written = routine.arguments
    builder, activation = routine.builder, ActivationCode(tail.operator, routine, parameters)
    width = SUMS + activation.parameters
    nothing = routine.nothing
    totals = [builder.alloca(nothing.bits.type) for _ in range(width if learns else SUMS)]  # LLVM makes them registers
    with for_range(builder, end, begin) as channel:
        factor, summand, mean = routine.numbers(factors, 3, builder.mul(channel.index, ir.IntType(64)(3)))
        first, first_written = builder.mul(channel.index, pixels), builder.mul(channel.index, written)
        for total in totals:
            builder.store(nothing.bits, total)
        with for_range(builder, written) as pixel:
            rows = _rows(routine, tail, windows, first, pixel.index)
            sources = [routine.load(source, row) for row in rows]
            scaled = _scaled(routine, tail, sources, other, rows, factor, summand)
            given = [routine.load(gradient, builder.add(first_written, pixel.index))]
            if tail.places:
                given = _of_largest([activation.value(each) for each in scaled], *given)
            for row, x, each, own in zip(rows, sources, scaled, given, strict=True):
                before, of_parameters = activation.gradients(each, own)
                routine.store(out, row, before)
                products = [before, before * (x - mean), *of_parameters]
                for total, product in zip(totals, products[: len(totals)], strict=True):
                    if product:
                        builder.store((Vector(builder, builder.load(total)) + product).bits, total)
        base = builder.mul(channel.index, ir.IntType(64)(width))
        for place, total in enumerate(totals):
            routine.store_sum(sums, builder.add(base, ir.IntType(64)(place)), Vector(builder, builder.load(total)))
    builder.ret_void()


def _rows(routine: Routine, tail: Tail, windows: ir.Value, first: ir.Value, pixel: ir.Value) -> list[ir.Value]:
    """The rows behind a plane's first that a pixel of the tail's end is made of."""
    builder = routine.builder
    if not tail.places:
        return [builder.add(first, pixel)]
    start = builder.mul(pixel, ir.IntType(64)(tail.places))
    places = (builder.add(start, ir.IntType(64)(place)) for place in range(tail.places))
    return [builder.add(first, routine.whole(windows, place)) for place in places]


def _scaled(
    routine: Routine,
    tail: Tail,
    sources: Sequence[Vector],
    other: ir.Value,
    rows: Sequence[ir.Value],
    factor: Vector,
    summand: Vector,
) -> list[Vector]:
    """What the activation reads in such rows."""
    scaled = [source * factor + summand for source in sources]
    if not tail.adds:
        return scaled
    return [each + routine.load(other, row) for each, row in zip(scaled, rows, strict=True)]


def _largest(values: Sequence[Vector]) -> Vector:
    """The largest in every lane; NaN where any is."""
    found = values[0]
    for value in values[1:]:
        found = value.compared(">", found).where(value, value.compared("!=", value).where(value, found))
    return found


def _of_largest(values: Sequence[Vector], given: Vector) -> list[Vector]:
    """The gradient of each value, given that of their largest: all of it for the first that is as large."""
    largest, left, found = _largest(values), given, []
    for value in values:
        found.append(value.compared("==", largest).where(left, 0))
        left = left - found[-1]
    return found
