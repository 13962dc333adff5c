"""The engine's loops over windows of planes, as LLVM code."""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache

from safs_ray.engine.code import Value, constant, lane_number, vector, word
from safs_ray.engine.kernels import LANES, Kernel


class Sliding(IntEnum):
    """The further arguments of windows that slide: of the output, of the input, of the window by row and column.

    SOURCES has where each channel's plane has its first pixel, WEIGHTS what each pixel's sum is multiplied with.
    """

    HEIGHT = 4
    WIDTH = 5
    PITCH = 6
    SOURCES = 7
    SOURCE_HEIGHT = 8
    SOURCE_WIDTH = 9
    SOURCE_PITCH = 10
    KERNEL_ROWS = 11
    KERNEL_COLUMNS = 12
    STRIDE_ROWS = 13
    STRIDE_COLUMNS = 14
    PADDING_ROWS = 15
    PADDING_COLUMNS = 16
    DILATION_ROWS = 17
    DILATION_COLUMNS = 18
    WEIGHTS = 19


OF_WINDOW = list(Sliding)[Sliding.KERNEL_ROWS - Sliding.HEIGHT : Sliding.WEIGHTS - Sliding.HEIGHT]
"""The fields that a window's numbers are for, in their order."""


@cache
def sliding(largest: bool, step: int) -> str:
    """The code of windows that slide, ``step`` columns at a time: the largest value of each, or its weighted sum."""
    kernel = Kernel("slide")
    given = {field: kernel.given(field) for field in Sliding}
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cleared(channel)
        source = kernel.shift(kernel.memory, kernel.index(given[Sliding.SOURCES], channel))
        with kernel.loop(0, given[Sliding.HEIGHT]) as row:
            written = kernel.line(cell, row, given[Sliding.PITCH])
            with kernel.loop(0, given[Sliding.WIDTH], LANES) as column:
                found = _window(kernel, given, source, row, column, largest, step)
                if not largest:
                    place = kernel.plus(kernel.times(row, given[Sliding.WIDTH]), column)
                    found = kernel.builder.fmul(found, kernel.load(vector(LANES), given[Sliding.WEIGHTS], place))
                kernel.store_where(kernel.below(column, given[Sliding.WIDTH], LANES), found, written, column)
    return kernel.finished()


def _window(
    kernel: Kernel,
    given: dict[Sliding, Value],
    source: Value,
    row: Value,
    column: Value,
    largest: bool,
    step: int,
) -> Value:
    """A vector of a row's pixels, over all places of their windows that lie inside the planes."""
    builder = kernel.builder
    top = builder.sub(kernel.times(row, given[Sliding.STRIDE_ROWS]), given[Sliding.PADDING_ROWS])
    left = builder.sub(kernel.times(column, given[Sliding.STRIDE_COLUMNS]), given[Sliding.PADDING_COLUMNS])
    start = constant(-math.inf if largest else 0, LANES)
    with kernel.folding(0, given[Sliding.KERNEL_ROWS], [start]) as (down, (above,), found):
        own_row = kernel.plus(top, kernel.times(down, given[Sliding.DILATION_ROWS]))
        is_row = builder.icmp_unsigned("<", own_row, given[Sliding.SOURCE_HEIGHT])
        safe = builder.select(is_row, own_row, word(0))
        line = kernel.shift(source, kernel.times(safe, given[Sliding.SOURCE_PITCH]))
        with kernel.folding(0, given[Sliding.KERNEL_COLUMNS], [above]) as (right, (total,), ahead):
            first = kernel.plus(left, kernel.times(right, given[Sliding.DILATION_COLUMNS]))
            value = _every(kernel, line, first, step, given[Sliding.STRIDE_COLUMNS])
            columns = builder.add(
                kernel.spread(first, LANES),
                builder.mul(kernel.counted(word(0), LANES), kernel.spread(given[Sliding.STRIDE_COLUMNS], LANES)),
            )
            known = builder.icmp_unsigned("<", columns, kernel.spread(given[Sliding.SOURCE_WIDTH], LANES))
            taken = builder.and_(known, kernel.spread(is_row, LANES))
            ahead[:] = [builder.select(taken, _combined(kernel, total, value, largest), total)]
        found[:] = [total]
    return above


def _combined(kernel: Kernel, total: Value, value: Value, largest: bool) -> Value:
    """The larger of two, NaN where either is; or their sum."""
    builder = kernel.builder
    if not largest:
        return builder.fadd(total, value)
    larger = builder.or_(builder.fcmp_ordered(">", value, total), builder.fcmp_unordered("uno", value, value))
    return builder.select(larger, value, total)


def _every(kernel: Kernel, line: Value, first: Value, step: int, stride: Value) -> Value:
    """Every so many numbers of a line: one vector, the even ones of two, or one at a time."""
    if step == 1:
        return kernel.load(vector(LANES), line, first)
    if step == 2:
        both = [kernel.load(vector(LANES), line, kernel.plus(first, lane)) for lane in (0, LANES)]
        return kernel.picked(both[0], both[1], range(0, 2 * LANES, 2))
    total = constant(0, LANES)
    for lane in range(LANES):
        number = kernel.load(vector(1), line, kernel.plus(first, kernel.times(stride, lane)))
        total = kernel.builder.insert_element(total, number, lane_number(lane))
    return total


class Collecting(IntEnum):
    """The further arguments of listed pixels.

    SOURCES is as of :class:`Sliding`. Pixel p of the output lies POSITIONS[p] behind its cell's beginning; what it
    takes are the numbers TABLE[p * PLACES + 0 … PLACES - 1] behind the plane's first pixel, but for
    negative ones.
    """

    PIXELS = 4
    SOURCES = 5
    PLACES = 6
    TABLE = 7
    POSITIONS = 8
    WEIGHTS = 9


@cache
def collecting(largest: bool) -> str:
    """The code of listed pixels: the largest of each list, or its weighted sum."""
    kernel = Kernel("collect")
    given = {field: kernel.given(field) for field in Collecting}
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cleared(channel)
        source = kernel.shift(kernel.memory, kernel.index(given[Collecting.SOURCES], channel))
        with kernel.loop(0, given[Collecting.PIXELS]) as pixel:
            found = _listed(kernel, given, source, pixel, largest)
            if not largest:
                found = kernel.builder.fmul(found, kernel.load(vector(1), given[Collecting.WEIGHTS], pixel))
            kernel.store(found, cell, kernel.index(given[Collecting.POSITIONS], pixel))
    return kernel.finished()


def _listed(kernel: Kernel, given: dict[Collecting, Value], source: Value, pixel: Value, largest: bool) -> Value:
    """Over all places that are listed for a pixel."""
    begin = kernel.times(pixel, given[Collecting.PLACES])
    start = constant(-math.inf if largest else 0)
    with kernel.folding(begin, kernel.plus(begin, given[Collecting.PLACES]), [start]) as (entry, (total,), found):
        place = kernel.index(given[Collecting.TABLE], entry)
        is_one = kernel.builder.icmp_signed(">=", place, word(0))
        value = kernel.load(vector(1), source, kernel.builder.select(is_one, place, word(0)))
        found[:] = [kernel.builder.select(is_one, _combined(kernel, total, value, largest), total)]
    return total
