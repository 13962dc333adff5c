"""Values as arrays of planes, and what passes read of them, whatever the numbers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from safs_ray.engine.passes import Collect, Places, Scale, Slide, Weigh
from safs_ray.sparse.windows import windows

Planes = npt.NDArray[Any]
"""A value of several images: (channels, height, width, images), or a plane of it."""


class Values:
    """The values of some images, by number, each with what stands around its planes."""

    def __init__(self) -> None:
        self._planes: dict[int, Planes] = {}
        self._around: dict[int, float] = {}

    def __getitem__(self, value: int) -> Planes:
        return self._planes[value]

    def put(self, value: int, planes: Planes, around: float = 0) -> None:
        """Add a value."""
        self._planes[value], self._around[value] = planes, around

    def forget(self, value: int) -> None:
        """Remove a value that nothing reads any more."""
        del self._planes[value], self._around[value]

    def shifted(self, places: Places, number: int, height: int, width: int) -> Planes:
        """(height, width, images): the plane at a place, from the pixel that the place names."""
        value, channel, row, column = (int(each[number]) for each in places.arrays)
        plane = self._planes[value][channel]
        found: Planes = plane[max(row, 0) : row + height, max(column, 0) : column + width]
        if found.shape[:2] == (height, width) and min(row, column) >= 0:
            return found
        out = np.full((height, width, plane.shape[2]), self._around[value], plane.dtype)
        top, left = max(-row, 0), max(-column, 0)
        out[top : top + found.shape[0], left : left + found.shape[1]] = found
        return out


def sums(values: Values, weigh: Weigh, height: int, width: int, images: int, kind: npt.DTypeLike) -> Planes:
    """The bias of each channel, and its terms times their weights."""
    out = np.empty((len(weigh.bias), height, width, images), kind)
    weights = weigh.weights.astype(kind)
    for channel, (first, end) in enumerate(zip(weigh.starts[:-1], weigh.starts[1:], strict=True)):
        out[channel] = weigh.bias[channel]
        for term in range(first, end):
            out[channel] += weights[term] * values.shifted(weigh.terms, term, height, width)
    return out


def products(values: Values, scale: Scale, zeros: tuple[int, int] = (0, 0)) -> Planes:
    """Each plane times the number of its channel, both counted from their zeros."""
    gate = values[scale.gate][: len(scale.planes)]
    height, width = values[int(scale.planes.value[0])].shape[1:3]
    planes = [values.shifted(scale.planes, number, height, width) for number in range(len(scale.planes))]
    return np.asarray((np.stack(planes) - zeros[0]) * (gate - zeros[1]))


def largest(values: Values, one: Slide | Collect, height: int, width: int) -> Planes:
    """The largest number of every window."""
    seen, inside = _seen(values, one, height, width)
    least = np.iinfo(seen.dtype).min if seen.dtype.kind == "i" else -np.inf
    return np.asarray(np.where(inside, seen, least).max(2).reshape(len(seen), height, width, -1))


def totals(values: Values, one: Slide | Collect, height: int, width: int, zero: int = 0) -> Planes:
    """The sum of every window, counted from a zero."""
    seen, inside = _seen(values, one, height, width)
    return np.asarray(np.where(inside, seen - zero, 0).sum(2).reshape(len(seen), height, width, -1))


def _seen(values: Values, one: Slide | Collect, height: int, width: int) -> tuple[Planes, npt.NDArray[np.bool_]]:
    """(channels, pixels, places, images) of windows, and (pixels, places, 1), whether a place lies in the plane."""
    _, rows, columns, _ = values[int(one.planes.value[0])].shape
    table = one.table if isinstance(one, Collect) else windows((1, rows, columns), (1, height, width), one.window)
    row, column = np.divmod(table, columns)
    inside = table >= 0
    seen = [
        values[value][channel][np.where(inside, row + down, 0), np.where(inside, column + right, 0)]
        for value, channel, down, right in zip(*one.planes.arrays, strict=True)
    ]
    return np.stack(seen), inside[..., None]
