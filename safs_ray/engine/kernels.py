"""The loops of the engine, as LLVM code.

All take ``(arguments, begin, end, call)``: the address of an array of words that a field of an enumeration here names
each, the channels to do, and the address of the words of :class:`Call`. Places are counted in numbers from the
beginning of the memory of values, indices have 32 bits. Every sum has one order: the same bits from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from itertools import accumulate

from llvmlite import ir

from safs_ray.engine.code import BYTE, WORD, Code, Value, constant, vector, word

LANES = 16
"""Numbers of a vector in these loops; processors of smaller registers take several for one."""

ACCUMULATORS = 8
"""Registers of sums that go on side by side, so that none waits for the one before it to be done."""

SCRATCH = 2048
"""Numbers that a tile's sums take, before their function is applied: so they stay in the first cache."""


class Call(IntEnum):
    """The words that all loops of a call share: addresses."""

    MEMORY = 0
    SCRATCH = 1
    IMAGES = 2
    LOGITS = 3


class Field(IntEnum):
    """The first words of all arguments.

    OUT is where the first cell begins, STRIDE from there to the next, ORIGIN to its first pixel, and CHANNELS how
    many there are.
    """

    OUT = 0
    STRIDE = 1
    ORIGIN = 2
    CHANNELS = 3


class Kernel(Code):
    """A loop over channels that is being written."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 4)
        self.begin, self.end = self.words[1], self.words[2]
        self.memory = self.shared(Call.MEMORY)

    def given(self, field: int) -> Value:
        """A word of the arguments."""
        return self.load(WORD, self.words[0], int(field), 8)

    def shared(self, field: Call) -> Value:
        return self.load(WORD, self.words[3], int(field), 8)

    def cell(self, channel: Value) -> Value:
        """The address of an output's cell."""
        place = self.plus(self.given(Field.OUT), self.times(channel, self.given(Field.STRIDE)))
        return self.shift(self.memory, place)

    def cleared(self, channel: Value) -> Value:
        """The address of an output's cell, whose pixels and borders are made zero."""
        cell = self.cell(channel)
        self.clear(cell, 0, self.plus(self.given(Field.STRIDE), self.given(Field.ORIGIN)))
        return cell

    def line(self, cell: Value, row: Value, pitch: Value) -> Value:
        """The address of a row's first pixel in an output's cell."""
        return self.shift(cell, self.plus(self.given(Field.ORIGIN), self.times(row, pitch)))


class Weighing(IntEnum):
    """The further arguments of a tile's sums.

    SHIFT is how far the tile's first pixel lies from a plane's first, and so from every term's. What is written is the
    part of a cell from FIRST on, LENGTH numbers, and TAIL more behind the last cell. The cells of TOGETHER channels
    have their function applied at once. Channel c's terms are those from STARTS[c] to below STARTS[c + 1]; weights lie
    in the memory of values where they are RELATIVE.
    """

    SHIFT = 4
    FIRST = 5
    LENGTH = 6
    TAIL = 7
    TOGETHER = 8
    STARTS = 9
    PLACES = 10
    WEIGHTS = 11
    RELATIVE = 12
    BIAS = 13
    MASK = 14
    FUNCTION = 15
    PARAMETERS = 16
    PARAMETERS_OF_CHANNEL = 17


@cache
def weighing(widths: tuple[int, ...], count: int) -> str:
    """The code of sums over a tile.

    Args:
        widths: of the vectors of a tile.
        count: sums of a tile that go on side by side, each of every so many terms.
    """
    kernel = Kernel("weigh")
    given = {field: kernel.given(field) for field in Weighing}
    scratch, memory = kernel.shared(Call.SCRATCH), kernel.shift(kernel.memory, given[Weighing.SHIFT])
    relative = kernel.times(kernel.memory, given[Weighing.RELATIVE])
    weights = kernel.plus(given[Weighing.WEIGHTS], relative)
    lead = kernel.builder.sub(kernel.plus(kernel.given(Field.ORIGIN), given[Weighing.SHIFT]), given[Weighing.FIRST])
    steps = kernel.builder.add(kernel.builder.sub(kernel.end, kernel.begin), given[Weighing.TOGETHER])
    groups = kernel.builder.sdiv(kernel.builder.sub(steps, word(1)), given[Weighing.TOGETHER])
    with kernel.loop(0, groups) as group:
        first = kernel.plus(kernel.begin, kernel.times(group, given[Weighing.TOGETHER]))
        last = kernel.least(kernel.plus(first, given[Weighing.TOGETHER]), kernel.end)
        with kernel.loop(first, last) as channel:
            sums = _sums(kernel, given, memory, weights, channel, widths, count)
            place = kernel.times(kernel.builder.sub(channel, first), given[Weighing.LENGTH])
            for total, lane in zip(sums, _first_lanes(widths), strict=True):
                kernel.store(total, scratch, kernel.plus(place, lead, lane))
        _apply(kernel, given, scratch, first, last)
    return kernel.finished()


def _first_lanes(widths: Sequence[int]) -> list[int]:
    return list(accumulate(widths, initial=0))[:-1]


def _sums(
    kernel: Kernel,
    given: dict[Weighing, Value],
    memory: Value,
    weights: Value,
    channel: Value,
    widths: Sequence[int],
    count: int,
) -> list[Value]:
    """A channel's bias and terms, added up over a tile."""

    def with_term(term: Value, sums: Sequence[Value]) -> list[Value]:
        weight = kernel.load(vector(1), weights, term)
        place = kernel.shift(memory, kernel.index(given[Weighing.PLACES], term))
        return [
            kernel.plus_product(total, kernel.spread(weight, width), kernel.load(vector(width), place, lane))
            for total, width, lane in zip(sums, widths, _first_lanes(widths), strict=True)
        ]

    width = len(widths)
    begin, end = (kernel.index(given[Weighing.STARTS], kernel.plus(channel, each)) for each in (0, 1))
    whole = kernel.builder.sub(end, kernel.builder.srem(kernel.builder.sub(end, begin), word(count)))
    bias = kernel.load(vector(1), given[Weighing.BIAS], channel)
    start = [kernel.spread(bias, each) for each in widths] + [constant(0, each) for each in widths] * (count - 1)
    with kernel.folding(begin, whole, start, count) as (term, carried, found):
        for number in range(count):
            own = slice(number * width, (number + 1) * width)
            found[own] = with_term(kernel.plus(term, number), carried[own])
    with kernel.folding(whole, end, carried[:width]) as (term, rest, found):
        found[:] = with_term(term, rest)
    for first in range(width, count * width, width):
        rest = [kernel.builder.fadd(*pair) for pair in zip(rest, carried[first : first + width], strict=True)]
    return rest


def _apply(kernel: Kernel, given: dict[Weighing, Value], scratch: Value, first: Value, last: Value) -> None:
    """Write the function of the sums of channels ``first`` to ``last`` to their cells."""
    kind = ir.FunctionType(ir.VoidType(), [WORD] * 5).as_pointer()
    function = kernel.builder.inttoptr(given[Weighing.FUNCTION], kind)
    out = kernel.shift(kernel.cell(first), given[Weighing.FIRST])
    is_last = kernel.builder.icmp_signed("==", last, kernel.given(Field.CHANNELS))
    tail = kernel.builder.select(is_last, given[Weighing.TAIL], word(0))
    count = kernel.plus(kernel.times(kernel.builder.sub(last, first), given[Weighing.LENGTH]), tail)
    own = kernel.times(first, given[Weighing.PARAMETERS_OF_CHANNEL])
    parameters = kernel.plus(given[Weighing.PARAMETERS], kernel.times(own, 4))
    kernel.builder.call(function, [out, scratch, given[Weighing.MASK], parameters, count])


class Reading(IntEnum):
    """The further arguments of reading images: LEVELS has what a channel's 256 values become."""

    HEIGHT = 4
    WIDTH = 5
    PITCH = 6
    LEVELS = 7


@cache
def reading() -> str:
    """The code that reads an image, (channels, height, width) of bytes."""
    kernel = Kernel("read")
    given = {field: kernel.given(field) for field in Reading}
    pixels = kernel.times(given[Reading.HEIGHT], given[Reading.WIDTH])
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cleared(channel)
        image = kernel.plus(kernel.shared(Call.IMAGES), kernel.times(channel, pixels))
        levels = kernel.shift(given[Reading.LEVELS], kernel.times(channel, 256))
        with kernel.loop(0, given[Reading.HEIGHT]) as row:
            taken = kernel.plus(image, kernel.times(row, given[Reading.WIDTH]))
            written = kernel.line(cell, row, given[Reading.PITCH])
            with kernel.loop(0, given[Reading.WIDTH]) as column:
                level = kernel.builder.zext(kernel.load(BYTE, taken, column, 1), WORD)
                kernel.store(kernel.load(vector(1), levels, level), written, column)
    return kernel.finished()


@cache
def writing() -> str:
    """The code that writes the logits, each the first pixel of a plane."""
    kernel = Kernel("write")
    with kernel.loop(kernel.begin, kernel.end) as channel:
        logit = kernel.load(vector(1), kernel.cell(channel), kernel.given(Field.ORIGIN))
        kernel.store(logit, kernel.shared(Call.LOGITS), channel)
    return kernel.finished()
