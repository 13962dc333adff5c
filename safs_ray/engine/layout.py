"""Where values lie in one block of memory: planes with borders of zeros, in buffers that are used again.

A value's planes lie behind each other, row behind row. Rows are ``pitch`` apart, a pixel's neighbours above and below
as well: so a plane shifted by rows and columns is the same plane read from another place, and one loop goes through all
of its pixels, whatever their number. Zeros that the shifted plane needs beyond its border stand before every plane and
behind every row; the end of a row serves as the beginning of the next, the end of a plane as that of the next plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from safs_ray.engine.passes import (
    Collect,
    Numbers,
    Pass,
    Passes,
    Places,
    Scale,
    Slide,
    Value,
    Weigh,
    planes_of,
    read_by,
)

SLACK = 1024
"""Numbers around all buffers that vectors may reach into."""


@dataclass(frozen=True)
class Cells:
    """A value's planes in memory, counted in numbers.

    Attributes:
        border: rows of zeros before a plane, and columns behind a row.
        pitch: from a pixel to the one below.
        base: where the first plane's border begins.
    """

    channels: int
    height: int
    width: int
    border: tuple[int, int]
    pitch: int
    base: int

    @property
    def origin(self) -> int:
        """From the beginning of a cell, a plane with its border, to its first pixel."""
        return self.border[0] * self.pitch + self.border[1]

    @property
    def stride(self) -> int:
        """From a plane to the next."""
        return (self.height + self.border[0]) * self.pitch

    @property
    def size(self) -> int:
        """Of all planes, and the border behind the last."""
        return self.channels * self.stride + self.origin

    @property
    def length(self) -> int:
        """From the first pixel of a plane to the next plane's border."""
        return self.stride - self.origin

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Of a cell, and the border that follows it: where the pixels are."""
        found = np.zeros(self.stride + self.origin, np.bool_)
        rows = self.origin + np.arange(self.height)[:, None] * self.pitch
        found[rows + np.arange(self.width)] = True
        return found


class Layout:
    """The cells of every value.

    Args:
        slack: numbers before the first buffer and behind the last.

    Attributes:
        cells: by value.
        size: of the block of memory, in numbers.
    """

    def __init__(self, found: Passes, slack: int = SLACK) -> None:
        borders = _borders(found)
        pitches = _pitches(found, borders)
        cells = [
            Cells(value.channels, value.height, value.width, border, pitch, 0)
            for value, border, pitch in zip(found.values, borders, pitches, strict=True)
        ]
        bases = _bases([each.size for each in cells], _lives(found), slack)
        self.cells = [replace(each, base=base) for each, base in zip(cells, bases, strict=True)]
        self.size = max(each.base + each.size for each in self.cells) + slack

    def at(self, places: Places) -> Numbers:
        """Where planes or pixels lie."""
        base, origin, stride, pitch = np.array(
            [(each.base, each.origin, each.stride, each.pitch) for each in self.cells]
        ).T[:, places.value]
        return np.asarray(base + places.channel * stride + origin + places.row * pitch + places.column)


def _borders(found: Passes) -> list[tuple[int, int]]:
    """Of each value, the rows and columns of zeros that what reads it needs."""
    borders = [(0, 0)] * len(found.values)
    for each in found.passes:
        if isinstance(each, Weigh):
            for number, reach in _reaches(each, found.values):
                borders[number] = max(borders[number][0], reach[0]), max(borders[number][1], reach[1])
    return borders


def _reaches(weigh: Weigh, values: Sequence[Value]) -> Iterator[tuple[int, tuple[int, int]]]:
    """How far beyond the border of each value its terms reach, in rows and in columns."""
    out = values[weigh.out]
    for number in np.unique(weigh.terms.value):
        own, value = weigh.terms[weigh.terms.value == number], values[number]
        yield int(number), (_beyond(own.row, out.height, value.height), _beyond(own.column, out.width, value.width))


def _beyond(shifts: Numbers, given: int, taken: int) -> int:
    return max(0, -int(shifts.min()), int(shifts.max()) + given - taken)


def _pitches(found: Passes, borders: Sequence[tuple[int, int]]) -> list[int]:
    """Of each value; the same for all that one loop goes through."""
    groups = list(range(len(found.values)))
    for each in found.passes:
        members = [int(number) for number in np.unique(_planes(each).value)]
        if isinstance(each, Weigh | Scale):
            members = [*members, each.out] if found.values[each.out].pixels > 1 else []
        for one in members:
            _unite(groups, one, members[0])
    roots = [_root(groups, number) for number in range(len(groups))]
    widest: dict[int, int] = {}
    for root, value, border in zip(roots, found.values, borders, strict=True):
        widest[root] = max(widest.get(root, 0), value.width + border[1])
    return [widest[root] for root in roots]


def _planes(one: Pass) -> Places:
    """The planes that one loop of a pass goes through together."""
    match one:
        case Weigh(terms=planes) | Scale(planes=planes) | Slide(planes=planes) | Collect(planes=planes):
            return planes
    return planes_of(one.out, 0)


def _root(groups: list[int], number: int) -> int:
    while groups[number] != number:
        number = groups[number]
    return number


def _unite(groups: list[int], one: int, other: int) -> None:
    groups[_root(groups, one)] = _root(groups, other)


def _lives(found: Passes) -> list[tuple[int, int]]:
    """Of each value, the numbers of the pass that writes it and of the last that reads it."""
    lives = [(0, 0)] * len(found.values)
    for number, each in enumerate(found.passes):
        lives[each.out] = number, number
        for places in read_by(each):
            for value in np.unique(places.value):
                lives[value] = lives[value][0], number
    lives[found.logits] = lives[found.logits][0], len(found.passes)
    return lives


def _bases(sizes: Sequence[int], lives: Sequence[tuple[int, int]], first: int) -> list[int]:
    """Places for buffers, the largest first, each the first that is free while it lives."""
    bases: dict[int, int] = {}
    for number in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        base = first
        beside = [other for other in bases if _meet(lives[number], lives[other])]
        for other in sorted(beside, key=bases.__getitem__):
            if base + sizes[number] <= bases[other]:
                break
            base = max(base, bases[other] + sizes[other])
        bases[number] = base
    return [bases[number] for number in range(len(sizes))]


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
