"""What the loops of a network run over: their arguments, and the tables that these name by their addresses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from safs_ray.engine import kernels, pooling
from safs_ray.engine.functions import function_code
from safs_ray.engine.kernels import ACCUMULATORS, LANES, SCRATCH, Field, Reading, Weighing
from safs_ray.engine.layout import Cells, Layout
from safs_ray.engine.passes import Collect, Foreign, Function, Pass, Places, Read, Scale, Slide, Weigh, planes_of
from safs_ray.engine.pooling import OF_WINDOW, Collecting, Sliding
from safs_ray.operators import Operator, lookup
from safs_ray.sparse import native

VECTOR = 32
"""Numbers that a function reads at once, also beyond the last."""


class Loop(NamedTuple):
    """A loop of machine code.

    Attributes:
        address: of its function.
        words: its arguments, in the order of their fields.
        channels: that it goes through.
    """

    address: int
    words: Sequence[int]
    channels: int


class Tile(NamedTuple):
    """A part of a plane, whose sums the registers hold.

    Attributes:
        shift: of its first pixel, from the plane's first.
        first, end: the part of a cell that is written, borders included.
        widths: of its vectors.
    """

    shift: int
    first: int
    end: int
    widths: tuple[int, ...]


def tiles(cells: Cells, vectors: int) -> list[Tile]:
    """The tiles of so many vectors of a value's planes, which together write whole cells."""
    widths = _widths(cells.length)
    shifts = range(0, len(widths), vectors)
    ends = [*(cells.origin + LANES * shift for shift in shifts[1:]), cells.stride]
    return [
        Tile(LANES * shift, first, end, tuple(widths[shift : shift + vectors]))
        for shift, first, end in zip(shifts, [0, *ends[:-1]], ends, strict=True)
    ]


def _widths(length: int) -> list[int]:
    """Of the vectors of so many numbers, the last of which may reach beyond the end."""
    whole, rest = divmod(length, LANES)
    last = 1 if length == 1 else next(width for width in (0, 4, 8, LANES) if rest <= width)
    return [LANES] * whole + [last] * (last > 0)


class Tables:
    """Makes the loops of passes, and keeps their tables.

    Attributes:
        scratch: numbers that the loops need beside the memory of values.
        bytes: of all tables.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._arrays: list[npt.NDArray[Any]] = []
        self._masks: dict[tuple[Any, ...], int] = {}
        self._functions: dict[str, int] = {}
        self.scratch = SCRATCH

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def address(self, array: npt.ArrayLike, kind: type[np.generic]) -> int:
        """Of a copy of an array that stays."""
        kept = np.array(array, kind)
        self._arrays.append(kept)
        return int(kept.ctypes.data)

    def loops(self, one: Pass, levels: Tensor) -> Iterator[Loop]:
        """The loops of a pass, in any order.

        Args:
            levels: (channels, 256), what the values of a pixel become.

        Raises:
            NotCompilableError: its operator cannot be compiled.
        """
        if not self._layout.cells[one.out].channels:
            return
        match one:
            case Read():
                yield self._reading(one, levels)
            case Weigh():
                yield from self._weighing(one)
            case Scale():
                yield from self._scaling(one)
            case Slide():
                yield self._sliding(one)
            case Collect():
                yield self._collecting(one)
            case Foreign():
                raise TypeError("torch runs it")

    def writing(self, logits: int) -> Loop:
        """The loop that gives the logits away."""
        return self._loop(kernels.writing(), "write", self._layout.cells[logits], {})

    def _reading(self, read: Read, levels: Tensor) -> Loop:
        cells = self._layout.cells[read.out]
        words = {
            Reading.HEIGHT: cells.height,
            Reading.WIDTH: cells.width,
            Reading.PITCH: cells.pitch,
            Reading.LEVELS: self.address(levels, np.float32),
        }
        return self._loop(kernels.reading(), "read", cells, words)

    def _weighing(self, weigh: Weigh) -> Iterator[Loop]:
        starts, bias = self.address(weigh.starts, np.int32), self.address(weigh.bias, np.float32)
        places = self.address(self._layout.at(weigh.terms), np.int32)
        words = {
            Weighing.PLACES: places,
            Weighing.WEIGHTS: self.address(weigh.weights, np.float32),
            Weighing.RELATIVE: 0,
        }
        for function in (each for each in weigh.functions if each.end > each.first):
            words[Weighing.STARTS], words[Weighing.BIAS] = starts + 4 * function.first, bias + 4 * function.first
            yield from self._tiled(weigh.out, function, words)

    def _scaling(self, scale: Scale) -> Iterator[Loop]:
        count = len(scale.planes)
        gate = self._layout.at(planes_of(scale.gate, count))
        linear = Function(lookup("linear"), np.ones(2, np.float32), 0, count)
        words = {
            Weighing.STARTS: self.address(np.arange(count + 1), np.int32),
            Weighing.PLACES: self.address(self._layout.at(scale.planes), np.int32),
            Weighing.WEIGHTS: 4 * int(gate[0]),
            Weighing.RELATIVE: 1,
            Weighing.BIAS: self.address(np.zeros(count), np.float32),
        }
        yield from self._tiled(scale.out, linear, words)

    def _tiled(self, out: int, function: Function, words: Mapping[Weighing, int]) -> Iterator[Loop]:
        """The loops over the tiles of the channels of a function."""
        cells, count = self._layout.cells[out], function.end - function.first
        parts = tiles(cells, _vectors())
        by_channel = function.parameters.ndim > 1
        together = 1 if len(parts) > 1 or by_channel else max(1, SCRATCH // cells.stride)
        shared: dict[Any, int] = {
            **words,
            Weighing.TOGETHER: together,
            Weighing.FUNCTION: self._function(function.operator),
            Weighing.PARAMETERS: self.address(function.parameters, np.float32),
            Weighing.PARAMETERS_OF_CHANNEL: function.parameters.shape[1] if by_channel else 0,
            Field.OUT: cells.base + function.first * cells.stride,
            Field.CHANNELS: count,
        }
        is_end = function.end == cells.channels
        for tile in parts:
            length, is_last = tile.end - tile.first, tile is parts[-1]
            self.scratch = max(self.scratch, together * length + cells.origin + LANES + VECTOR)
            own = {
                Weighing.SHIFT: tile.shift,
                Weighing.FIRST: tile.first,
                Weighing.LENGTH: length,
                Weighing.TAIL: cells.origin if is_end and is_last else 0,
                Weighing.MASK: self._mask(cells, together) + 4 * tile.first,
            }
            code = kernels.weighing(tile.widths, _side_by_side(tile.widths))
            yield self._loop(code, "weigh", cells, {**shared, **own})

    def _sliding(self, slide: Slide) -> Loop:
        cells, source = self._layout.cells[slide.out], self._source(slide.planes)
        words = {
            Sliding.HEIGHT: cells.height,
            Sliding.WIDTH: cells.width,
            Sliding.PITCH: cells.pitch,
            Sliding.SOURCES: self.address(self._layout.at(slide.planes), np.int32),
            Sliding.SOURCE_HEIGHT: source.height,
            Sliding.SOURCE_WIDTH: source.width,
            Sliding.SOURCE_PITCH: source.pitch,
            **dict(zip(OF_WINDOW, itertools.chain(*slide.window), strict=True)),
            Sliding.WEIGHTS: self._optional(slide.weights),
        }
        step = slide.window.stride[1]
        code = pooling.sliding(slide.weights is None, step if step <= 2 else 0)
        return self._loop(code, "slide", cells, words)

    def _collecting(self, collect: Collect) -> Loop:
        cells, source = self._layout.cells[collect.out], self._source(collect.planes)
        row, column = np.divmod(collect.table, collect.width)
        places = np.where(collect.table >= 0, row * source.pitch + column, -1)
        words = {
            Collecting.PIXELS: len(collect.table),
            Collecting.SOURCES: self.address(self._layout.at(collect.planes), np.int32),
            Collecting.PLACES: collect.table.shape[1],
            Collecting.TABLE: self.address(places, np.int32),
            Collecting.POSITIONS: self.address(np.flatnonzero(cells.inside), np.int32),
            Collecting.WEIGHTS: self._optional(collect.weights),
        }
        return self._loop(pooling.collecting(collect.weights is None), "collect", cells, words)

    def _source(self, planes: Places) -> Cells:
        """The cells of planes, which all are alike."""
        return self._layout.cells[int(planes.value[0])]

    def _optional(self, weights: npt.NDArray[np.float64] | None) -> int:
        """The address of weights that are read by vectors; 0 for none."""
        return 0 if weights is None else self.address(np.pad(weights, (0, LANES)), np.float32)

    def _function(self, operator: Operator) -> int:
        """The address of an operator's code."""
        if operator.name not in self._functions:
            self._functions[operator.name] = _address(function_code(operator), "apply")
        return self._functions[operator.name]

    def _mask(self, cells: Cells, together: int) -> int:
        """The address of bits for numbers that are pixels, of so many cells and a border; vectors may read on."""
        key = (cells.stride, cells.origin, cells.pitch, cells.height, cells.width, together)
        if key not in self._masks:
            inside = np.concatenate([np.tile(cells.inside[: cells.stride], together), np.zeros(cells.origin + VECTOR)])
            self._masks[key] = self.address(np.where(inside, -1, 0), np.int32)
        return self._masks[key]

    def _loop(self, code: str, name: str, cells: Cells, words: Mapping[Any, int]) -> Loop:
        every: dict[Any, int] = {
            Field.OUT: cells.base,
            Field.STRIDE: cells.stride,
            Field.ORIGIN: cells.origin,
            Field.CHANNELS: cells.channels,
            **words,
        }
        listed = [int(every[number]) for number in sorted(every, key=int)]
        return Loop(_address(code, name), listed, every[Field.CHANNELS])


@cache
def _vectors() -> int:
    """Vectors whose sums fit in the registers of this processor."""
    return ACCUMULATORS * native.lanes() // LANES


@cache
def _side_by_side(widths: tuple[int, ...]) -> int:
    """How many sums of so many vectors fit there."""
    registers = sum(-(-width // native.lanes()) for width in widths)
    return max(1, ACCUMULATORS // registers)


@cache
def _address(code: str, name: str) -> int:
    return native.load(code, [name])[name]
