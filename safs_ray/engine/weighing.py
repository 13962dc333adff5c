"""The engine's sums of planes times weights, as LLVM code, with the function of the sums.

The sums of a part of a plane, a tile, stay in registers over all of a channel's terms. A term is one weight and, for
each vector of the tile, one product: where a plane lies is all that its index says. Single pixels lie side by side, so
that their function is applied to many channels at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

from safs_ray.engine.code import INDEX, Value, constant, vector, word
from safs_ray.engine.kernels import LANES, Field, Kernel
from safs_ray.operators import Operator
from safs_ray.sparse.definitions import applied
from safs_ray.sparse.symbols import NotCompilableError, Symbol
from safs_ray.sparse.vectors import Vector

ACCUMULATORS = 8
"""Registers of sums that go on side by side, so that none waits for the one before it to be done."""

WIDTHS = (1, 4, 8, LANES)
"""Numbers that a vector may have."""

TOGETHER = 32
"""Channels of one pixel whose function is applied at once."""


class Weighing(IntEnum):
    """The further arguments of a tile's sums.

    SHIFT is how far the tile's first pixel lies from a plane's first, and so from every term's; LENGTH, how many
    numbers there are from it to the plane's last pixel. Channel c's terms are those from STARTS[c] to below
    STARTS[c + 1], each a plane PLACES[term] behind NEAREST times WEIGHTS[term], which lie in the memory of values where
    they are RELATIVE. MASK has bits for the numbers that are pixels. PARAMETERS are alpha, beta and the operator's own,
    each one number, or one for each channel.
    """

    SHIFT = 4
    LENGTH = 5
    STARTS = 6
    PLACES = 7
    NEAREST = 8
    WEIGHTS = 9
    RELATIVE = 10
    BIAS = 11
    MASK = 12
    PARAMETERS = 13


class Tile(NamedTuple):
    """What is compiled in.

    Attributes:
        widths: of the tile's vectors; (1,) for planes of one pixel each that lie side by side.
        beside: sums of the tile that go on side by side, each of every so many terms.
        size: of an index in bytes, 2 or 4.
        masked: whether it has numbers that are no pixels, up to its end.
        whole: whether its last vector is none that reaches beyond the plane.
        by_channel: whether the function's parameters are.
    """

    widths: tuple[int, ...]
    beside: int
    size: int
    masked: bool
    whole: bool
    by_channel: bool


def weighing(tile: Tile, operator: Operator) -> str:
    """The code of sums over a tile and of their function.

    Raises:
        NotCompilableError: the operator does what has no rule.
    """
    kernel = _Weighing(tile, operator)
    if tile.widths == (1,):
        kernel.write_pixels()
    else:
        kernel.write_planes()
    return kernel.finished()


def is_compilable(operator: Operator) -> bool:
    """Whether an operator does nothing that has no rule."""
    try:
        weighing(Tile((WIDTHS[1],), 1, 2, masked=False, whole=True, by_channel=False), operator)
    except NotCompilableError:
        return False
    return True


class _Weighing(Kernel):
    def __init__(self, tile: Tile, operator: Operator) -> None:
        super().__init__("weigh")
        self._tile, self._operator = tile, operator
        self._words = {field: self.given(field) for field in Weighing}
        nearest = self.plus(self._words[Weighing.NEAREST], self._words[Weighing.SHIFT])
        self._nearest = self.shift(self.memory, nearest)
        relative = self.times(self.memory, self._words[Weighing.RELATIVE])
        self._weights = self.plus(self._words[Weighing.WEIGHTS], relative)
        self._lanes = list(accumulate(tile.widths, initial=0))[:-1]

    def write_planes(self) -> None:
        first = self.plus(self.given(Field.ORIGIN), self._words[Weighing.SHIFT])
        with self.loop(self.begin, self.end) as channel:
            out = self.shift(self.cell(channel), first)
            for number, total in enumerate(self._sums(channel)):
                self._write(number, self._function(total, channel), out)

    def _write(self, number: int, value: Value, out: Value) -> None:
        """Write a vector of the tile: zeros where there are no pixels, and nothing beyond the plane."""
        width, lane = self._tile.widths[number], self._lanes[number]
        if self._tile.masked:
            mask = self.load(vector(width, INDEX), self._words[Weighing.MASK], lane)
            bits = self.builder.and_(self.builder.bitcast(value, vector(width, INDEX)), mask)
            value = self.builder.bitcast(bits, vector(width))
        if self._tile.whole or number < len(self._tile.widths) - 1:
            self.store(value, out, lane)
        else:
            self.store_below(self._words[Weighing.LENGTH], value, out, word(lane))

    def write_pixels(self) -> None:
        out = self.cell(word(0))
        with self.loop(self.begin, self.end, TOGETHER) as first:
            with self.loop(first, self.least(self.plus(first, TOGETHER), self.end)) as channel:
                (total,) = self._sums(channel)
                self.store(total, out, channel)
            sums = self.load(vector(TOGETHER), out, first)
            self.store_below(self.end, self._function(sums, first), out, first)

    def _function(self, x: Value, channel: Value) -> Value:
        """alpha g(beta x) of a channel, or of as many as x has lanes."""
        parameters = [self._parameter(number, channel, x) for number in range(2 + len(self._operator.parameters))]
        alpha, beta, *internal = (Vector(self.builder, each) for each in parameters)
        given = applied(self._operator, [Symbol(each, ()) for each in (beta * Vector(self.builder, x), *internal)])
        return (alpha * given.value).bits

    def _parameter(self, number: int, channel: Value, like: Value) -> Value:
        address, lanes = self._words[Weighing.PARAMETERS], like.type.count
        if not self._tile.by_channel:
            return self.spread(self.load(vector(1), address, number), lanes)
        place = self.plus(self.times(self.given(Field.CHANNELS), number), channel)
        if self._tile.widths == (1,):
            return self.load(vector(lanes), address, place)
        return self.spread(self.load(vector(1), address, place), lanes)

    def _sums(self, channel: Value) -> list[Value]:
        """A channel's bias and terms, added up over the tile."""
        widths, count, width = self._tile.widths, self._tile.beside, len(self._tile.widths)
        begin, end = (self.index(self._words[Weighing.STARTS], self.plus(channel, each)) for each in (0, 1))
        whole = self.builder.sub(end, self.builder.srem(self.builder.sub(end, begin), word(count)))
        bias = self.load(vector(1), self._words[Weighing.BIAS], channel)
        start = [self.spread(bias, each) for each in widths] + [constant(0, each) for each in widths] * (count - 1)
        with self.folding(begin, whole, start, count) as (term, carried, found):
            for number in range(count):
                own = slice(number * width, (number + 1) * width)
                found[own] = self._with_term(self.plus(term, number), carried[own])
        with self.folding(whole, end, carried[:width]) as (term, rest, found):
            found[:] = self._with_term(term, rest)
        for first in range(width, count * width, width):
            rest = [self.builder.fadd(*pair) for pair in zip(rest, carried[first : first + width], strict=True)]
        return rest

    def _with_term(self, term: Value, sums: Sequence[Value]) -> list[Value]:
        weight = self.load(vector(1), self._weights, term)
        place = self.shift(self._nearest, self.far(self._words[Weighing.PLACES], term, self._tile.size))
        return [
            self.plus_product(total, self.spread(weight, width), self.load(vector(width), place, lane))
            for total, width, lane in zip(sums, self._tile.widths, self._lanes, strict=True)
        ]
