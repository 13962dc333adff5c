"""The loops of the engine, as LLVM code.

All take ``(arguments, begin, end, call)``: the address of an array of words that a field of an enumeration here names
each, the channels to do, and the address of the words of :class:`Call`. Places are counted in numbers from the
beginning of the memory of values, indices have 32 bits. Every sum has one order: the same bits from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import cache

from safs_ray.engine.code import BYTE, WORD, Code, Value, constant, vector

LANES = 16
"""Numbers of a vector in these loops; processors of smaller registers take several for one."""


class Call(IntEnum):
    """The words that all loops of a call share: addresses."""

    MEMORY = 0
    IMAGES = 1
    LOGITS = 2


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

    def clear_cells(self) -> None:
        """Make all cells zero, and the border behind the last."""
        cells = self.times(self.builder.sub(self.end, self.begin), self.given(Field.STRIDE))
        self.clear(self.cell(self.begin), 0, self.plus(cells, self.given(Field.ORIGIN)))

    def line(self, cell: Value, row: Value, pitch: Value) -> Value:
        """The address of a row's first pixel in an output's cell."""
        return self.shift(cell, self.plus(self.given(Field.ORIGIN), self.times(row, pitch)))


@cache
def bordering() -> str:
    """The code that writes the zeros before planes, and behind the last."""
    kernel = Kernel("border")
    origin = kernel.given(Field.ORIGIN)
    is_last = kernel.builder.icmp_signed("==", kernel.end, kernel.given(Field.CHANNELS))
    end = kernel.builder.select(is_last, kernel.plus(kernel.end, 1), kernel.end)
    with kernel.loop(kernel.begin, end) as channel:
        cell = kernel.cell(channel)
        with kernel.loop(0, origin, LANES) as number:
            kernel.store_below(origin, constant(0, LANES), cell, number)
    return kernel.finished()


class Reading(IntEnum):
    """The further arguments of reading images: LEVELS has what a channel's 256 bytes become."""

    HEIGHT = 4
    WIDTH = 5
    PITCH = 6
    LEVELS = 7


Read = Callable[[Kernel, Value, Value], Value]
"""Writes the code that reads a number of a channel, at its place in an image."""


@cache
def reading_bytes() -> str:
    """The code that reads an image, (channels, height, width) of bytes."""

    def read(kernel: Kernel, channel: Value, place: Value) -> Value:
        levels = kernel.shift(kernel.given(Reading.LEVELS), kernel.times(channel, 256))
        level = kernel.builder.zext(kernel.load(BYTE, kernel.shared(Call.IMAGES), place, 1), WORD)
        return kernel.load(vector(1), levels, level)

    return _reading(read)


@cache
def reading_numbers() -> str:
    """The code that reads an input, (channels, height, width) of numbers."""
    return _reading(lambda kernel, _, place: kernel.load(vector(1), kernel.shared(Call.IMAGES), place))


def _reading(read: Read) -> str:
    kernel = Kernel("read")
    given = {field: kernel.given(field) for field in Reading}
    pixels = kernel.times(given[Reading.HEIGHT], given[Reading.WIDTH])
    kernel.clear_cells()
    with kernel.loop(kernel.begin, kernel.end) as channel:
        cell = kernel.cell(channel)
        with kernel.loop(0, given[Reading.HEIGHT]) as row:
            first = kernel.plus(kernel.times(channel, pixels), kernel.times(row, given[Reading.WIDTH]))
            written = kernel.line(cell, row, given[Reading.PITCH])
            with kernel.loop(0, given[Reading.WIDTH]) as column:
                kernel.store(read(kernel, channel, kernel.plus(first, column)), written, column)
    return kernel.finished()


@cache
def writing() -> str:
    """The code that writes the logits, each the first pixel of a plane."""
    kernel = Kernel("write")
    with kernel.loop(kernel.begin, kernel.end) as channel:
        logit = kernel.load(vector(1), kernel.cell(channel), kernel.given(Field.ORIGIN))
        kernel.store(logit, kernel.shared(Call.LOGITS), channel)
    return kernel.finished()
