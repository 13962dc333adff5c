"""What the loops of a network run over: their arguments, and the tables that these name by their addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from safs_ray.engine import kernels, pooling
from safs_ray.engine.kernels import LANES, Field, Reading
from safs_ray.engine.layout import Cells, Layout
from safs_ray.engine.passes import Collect, Foreign, Function, Pass, Places, Read, Scale, Slide, Weigh, planes_of
from safs_ray.engine.pooling import Collecting, Slid, Sliding
from safs_ray.engine.weighing import ACCUMULATORS, TOGETHER, WIDTHS, Tile, Weighing, weighing
from safs_ray.operators import Operator, lookup
from safs_ray.sparse import native


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


class Part(NamedTuple):
    """A part of a plane, whose sums the registers hold.

    Attributes:
        shift: of its first pixel, from the plane's first.
        length: how many numbers there are from there to the plane's last pixel.
        widths: of its vectors.
    """

    shift: int
    length: int
    widths: tuple[int, ...]


def parts(cells: Cells, vectors: int) -> list[Part]:
    """The parts of so many vectors of a value's planes."""
    widths = _widths(cells)
    return [
        Part(LANES * first, cells.length - LANES * first, tuple(widths[first : first + vectors]))
        for first in range(0, len(widths), vectors)
    ]


def _widths(cells: Cells) -> list[int]:
    """Of the vectors of a plane, the last of which may reach beyond its end."""
    if cells.stride == 1 and not cells.origin:
        return [1]
    whole, rest = divmod(cells.length, LANES)
    last = next(width for width in (0, *WIDTHS[1:]) if rest <= width)
    return [LANES] * whole + [last] * (last > 0)


class Tables:
    """Makes the loops of passes, and keeps their tables.

    Attributes:
        bytes: of all tables.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._arrays: list[npt.NDArray[Any]] = []
        self._masks: dict[tuple[int, ...], int] = {}
        self._codes: dict[tuple[Tile, str], str] = {}

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def address(self, array: npt.ArrayLike, kind: type[np.generic]) -> int:
        """Of a copy of an array that stays."""
        kept = np.array(array, kind)
        self._arrays.append(kept)
        return int(kept.ctypes.data)

    def loops(self, one: Pass, levels: Tensor | None) -> Iterator[Loop]:
        """The loops of a pass, in any order.

        Args:
            levels: (channels, 256), what the bytes of images become; None where inputs are numbers.

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

    def _reading(self, read: Read, levels: Tensor | None) -> Loop:
        cells = self._layout.cells[read.out]
        words = {
            Reading.HEIGHT: cells.height,
            Reading.WIDTH: cells.width,
            Reading.PITCH: cells.pitch,
            Reading.LEVELS: 0 if levels is None else self.address(levels, np.float32),
        }
        code = kernels.reading_numbers() if levels is None else kernels.reading_bytes()
        return self._loop(code, "read", cells, words)

    def _weighing(self, weigh: Weigh) -> Iterator[Loop]:
        starts, bias = self.address(weigh.starts, np.int32), self.address(weigh.bias, np.float32)
        terms, size = self._terms(weigh.terms)
        words = {
            **terms,
            Weighing.WEIGHTS: self.address(weigh.weights, np.float32),
            Weighing.RELATIVE: 0,
        }
        for function in (each for each in weigh.functions if each.end > each.first):
            words[Weighing.STARTS], words[Weighing.BIAS] = starts + 4 * function.first, bias + 4 * function.first
            yield from self._tiled(weigh.out, function, words, size)

    def _scaling(self, scale: Scale) -> Iterator[Loop]:
        count = len(scale.planes)
        gate = self._layout.at(planes_of(scale.gate, count))
        linear = Function(lookup("linear"), np.ones(2, np.float32), 0, count)
        terms, size = self._terms(scale.planes)
        words = {
            **terms,
            Weighing.STARTS: self.address(np.arange(count + 1), np.int32),
            Weighing.WEIGHTS: 4 * int(gate[0]),
            Weighing.RELATIVE: 1,
            Weighing.BIAS: self.address(np.zeros(count), np.float32),
        }
        yield from self._tiled(scale.out, linear, words, size)

    def _terms(self, terms: Places) -> tuple[dict[Weighing, int], int]:
        """Where terms lie, from the nearest on, and the bytes of an index."""
        places = self._layout.at(terms)
        nearest = int(places.min()) if len(places) else 0
        behind = places - nearest
        kind = np.uint16 if behind.max(initial=0) < 1 << 16 else np.uint32
        return {Weighing.PLACES: self.address(behind, kind), Weighing.NEAREST: nearest}, kind(0).nbytes

    def _tiled(self, out: int, function: Function, words: Mapping[Weighing, int], size: int) -> Iterator[Loop]:
        """The loops over the parts of the channels of a function, whose indices have as many bytes."""
        cells = self._layout.cells[out]
        shared: dict[Any, int] = {
            **words,
            Weighing.PARAMETERS: self.address(np.pad(function.parameters.T.ravel(), (0, TOGETHER)), np.float32),
            Field.OUT: cells.base + function.first * cells.stride,
            Field.CHANNELS: function.end - function.first,
        }
        if cells.origin:
            yield self._loop(kernels.bordering(), "border", cells, shared)
        masked, by_channel = cells.length > cells.height * cells.width, function.parameters.ndim > 1
        for part in parts(cells, _vectors()):
            own = {Weighing.SHIFT: part.shift, Weighing.LENGTH: part.length, Weighing.MASK: 0}
            if masked:
                own[Weighing.MASK] = self._mask(cells) + 4 * part.shift
            whole = sum(part.widths) <= part.length
            tile = Tile(part.widths, _side_by_side(part.widths), size, masked, whole, by_channel)
            yield self._loop(self._weighing_code(tile, function.operator), "weigh", cells, {**shared, **own})

    def _weighing_code(self, tile: Tile, operator: Operator) -> str:
        key = tile, operator.name
        if key not in self._codes:
            self._codes[key] = weighing(tile, operator)
        return self._codes[key]

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
            Sliding.WEIGHTS: self._optional(slide.weights),
        }
        inside = slide.window.lies_inside((cells.height, cells.width), (source.height, source.width))
        lanes = next(width for width in WIDTHS if cells.width <= width or width == LANES)
        code = pooling.sliding(Slid(slide.window, slide.weights is None, inside, lanes))
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

    def _mask(self, cells: Cells) -> int:
        """The address of bits for the numbers of a plane that are pixels; vectors may read on."""
        key = cells.pitch, cells.height, cells.width
        if key not in self._masks:
            inside = cells.inside[cells.origin :][: cells.length]
            self._masks[key] = self.address(np.where(np.pad(inside, (0, LANES)), -1, 0), np.int32)
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
