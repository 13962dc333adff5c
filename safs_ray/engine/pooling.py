"""The engine's loops over windows of planes, as LLVM code."""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from safs_ray.engine.code import Value, constant, lane_number, vector, word
from safs_ray.engine.kernels import Kernel
from safs_ray.sparse.windows import Window


class Sliding(IntEnum):
    """The further arguments of windows that slide: of the output, and of the input.

    SOURCES has where each channel's plane has its first pixel, WEIGHTS what each pixel's sum is multiplied with.
    """

    HEIGHT = 4
    WIDTH = 5
    PITCH = 6
    SOURCES = 7
    SOURCE_HEIGHT = 8
    SOURCE_WIDTH = 9
    SOURCE_PITCH = 10
    WEIGHTS = 11


class Slid(NamedTuple):
    """What is compiled in.

    Attributes:
        largest: whether a window's largest value is taken, or its weighted sum.
        inside: whether all places of all windows lie inside the planes.
        lanes: of a vector, no more than hold a row.
    """

    window: Window
    largest: bool
    inside: bool
    lanes: int


@cache
def sliding(slid: Slid) -> str:
    """The code of windows that slide."""
    kernel = Kernel("slide")
    given = {field: kernel.given(field) for field in Sliding}
    kernel.clear_cells()
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cell(channel)
        source = kernel.shift(kernel.memory, kernel.index(given[Sliding.SOURCES], channel))
        with kernel.loop(0, given[Sliding.HEIGHT]) as row:
            written = kernel.line(cell, row, given[Sliding.PITCH])
            with kernel.loop(0, given[Sliding.WIDTH], slid.lanes) as column:
                found = _window(kernel, given, source, row, column, slid)
                if not slid.largest:
                    place = kernel.plus(kernel.times(row, given[Sliding.WIDTH]), column)
                    found = kernel.builder.fmul(found, kernel.load(vector(slid.lanes), given[Sliding.WEIGHTS], place))
                kernel.store_below(given[Sliding.WIDTH], found, written, column)
    return kernel.finished()


def _window(kernel: Kernel, given: dict[Sliding, Value], source: Value, row: Value, column: Value, slid: Slid) -> Value:
    """A vector of a row's pixels, over all places of their windows that lie inside the planes."""
    window, builder = slid.window, kernel.builder
    top, left = (
        builder.sub(kernel.times(first, step), word(padding))
        for first, step, padding in zip((row, column), window.stride, window.padding, strict=True)
    )
    start = constant(-math.inf if slid.largest else 0, slid.lanes)
    with kernel.folding(0, word(window.kernel[0]), [start]) as (down, (above,), found):
        own = kernel.plus(top, kernel.times(down, window.dilation[0]))
        is_row = builder.icmp_unsigned("<", own, given[Sliding.SOURCE_HEIGHT])
        safe = own if slid.inside else builder.select(is_row, own, word(0))
        line = kernel.shift(source, kernel.times(safe, given[Sliding.SOURCE_PITCH]))
        with kernel.folding(0, word(window.kernel[1]), [above]) as (right, (total,), ahead):
            first = kernel.plus(left, kernel.times(right, window.dilation[1]))
            value = _every(kernel, line, first, window.stride[1], slid.lanes)
            sum_or_largest = _combined(kernel, total, value, slid.largest)
            if not slid.inside:
                known = kernel.below(first, given[Sliding.SOURCE_WIDTH], slid.lanes, window.stride[1])
                taken = builder.and_(known, kernel.spread(is_row, slid.lanes))
                sum_or_largest = builder.select(taken, sum_or_largest, total)
            ahead[:] = [sum_or_largest]
        found[:] = [total]
    return above


def _combined(kernel: Kernel, total: Value, value: Value, largest: bool) -> Value:
    """The larger of two, NaN where either is; or their sum."""
    builder = kernel.builder
    if not largest:
        return builder.fadd(total, value)
    larger = builder.or_(builder.fcmp_ordered(">", value, total), builder.fcmp_unordered("uno", value, value))
    return builder.select(larger, value, total)


def _every(kernel: Kernel, line: Value, first: Value, step: int, lanes: int) -> Value:
    """Every so many numbers of a line: one vector, the even ones of two, or one at a time."""
    if step == 1 or lanes == 1:
        return kernel.load(vector(lanes), line, first)
    if step == 2:
        both = [kernel.load(vector(lanes), line, kernel.plus(first, lane)) for lane in (0, lanes)]
        return kernel.picked(both[0], both[1], range(0, 2 * lanes, 2))
    total = constant(0, lanes)
    for lane in range(lanes):
        number = kernel.load(vector(1), line, kernel.plus(first, step * lane))
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
    kernel.clear_cells()
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cell(channel)
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
