"""A network in whole numbers, found from images: ranges by what occurs, weights by channel, functions as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from safs_ray.engine import passes as engine
from safs_ray.engine.passes import Collect, Function, Pass, Passes, Read, Scale, Slide, Weigh, read_by
from safs_ray.export.int8 import planes, reference, weights
from safs_ray.export.int8.copies import separated
from safs_ray.export.int8.integers import (
    LEAST,
    LEVELS,
    LOGIT_BITS,
    PIXEL_BITS,
    Grid,
    IntegerPass,
    IntegerProgram,
    Largest,
    Levelling,
    Logits,
    Means,
    Part,
    Pixels,
    Products,
    Sums,
)
from safs_ray.export.int8.planes import Planes, Values
from safs_ray.export.int8.ranges import Numbers, Range, chosen, holding
from safs_ray.models import Specification
from safs_ray.sparse.graph import UnsupportedError

LIMIT = 2.0**28
"""By how much a bias is corrected at most."""

MOST_SHIFT, FACTOR_BITS = 46, 16
"""Bits that a product of a sum and a factor loses at most, and bits of a factor."""


def quantised(passes: Passes, specification: Specification, images: Tensor) -> IntegerProgram:
    """The passes of a network over whole numbers.

    Args:
        images: uint8 (N, C, H, W), from which the range of every value is found.

    Raises:
        UnsupportedError: a value is not finite for these images.
    """
    return _Quantisation(separated(passes), specification, images).program()


class _Quantisation:
    def __init__(self, passes: Passes, specification: Specification, images: Tensor) -> None:
        self._passes, self._specification, self._images = passes, specification, images
        self._values, self._numbers = Values(), Values()
        self._grids: dict[int, Grid] = {}
        self._last = {int(value): one for one in passes.passes for each in read_by(one) for value in each.value}
        self._unit = 1.0

    def program(self) -> IntegerProgram:
        """Every pass in turn, after what it reads."""
        done = list(self._quantised())
        around = [self._grids[value].around if value in self._grids else 0 for value in range(len(self._passes.values))]
        return IntegerProgram(self._passes.values, around, done, self._passes.logits, self._unit)

    def _quantised(self) -> Iterator[IntegerPass]:
        for one in self._passes.passes:
            if self._passes.values[one.out].channels:
                whole = self._of(one)
                yield whole
                if one.out != self._passes.logits:
                    numbers = reference.done(whole, self._passes.values[one.out], self._numbers, self._images)
                    self._numbers.put(one.out, numbers, self._grids[one.out].around)
                for value in [value for value, last in self._last.items() if last is one]:
                    self._values.forget(value)
                    self._numbers.forget(value)

    def _of(self, one: Pass) -> IntegerPass:
        match one:
            case Read():
                return self._pixels(one)
            case Weigh():
                return self._logits(one) if one.out == self._passes.logits else self._sums(one)
            case Scale():
                return self._products(one)
            case Slide(weights=None) | Collect(weights=None):
                return self._largest(one)
            case Slide() | Collect():
                return self._means(one)
        raise TypeError(f"{type(one).__name__} is no pass over whole numbers")

    def _size(self, one: Pass) -> tuple[int, int]:
        value = self._passes.values[one.out]
        return value.height, value.width

    def _put(self, one: Pass, values: Planes, grid: Grid) -> None:
        """Keep what a pass gives for the images, and what its numbers stand for."""
        self._values.put(one.out, values.astype(np.float32), 0)
        self._grids[one.out] = grid

    def _pixels(self, read: Read) -> Pixels:
        """Pixels of 8 bits as they are, but for channels whose means differ: what stands for 0 is the same in all."""
        mean, deviation = 255 * np.array(self._specification.mean), np.array(self._specification.deviation)
        least, most = min(0.0, -mean.max()), max(0.0, 255 - mean.min())
        scale = 1.0 if most - least <= 255 else 254 / (most - least)
        zero = round(-least * scale)
        summands = np.rint(zero - scale * mean).astype(np.int64)
        grid = Grid(1 / (255 * deviation * scale), LEAST + summands + scale * mean, LEAST + zero)
        self._put(read, self._specification.normalised(self._images).permute(1, 2, 3, 0).numpy(), grid)
        return Pixels(read, round(scale * (1 << PIXEL_BITS)), summands.tolist())

    def _sums(self, weigh: Weigh) -> Sums:
        sums = self._exact_sums(weigh)
        functions = [each for function in weigh.functions for each in _by_parameters(function)]
        applied = [partial(_apply, each) for each in functions]
        ranges = [chosen(sums[own.first : own.end], function) for own, function in zip(functions, applied, strict=True)]
        tables = [function(own.numbers) for own, function in zip(ranges, applied, strict=True)]
        given = holding(*tables)
        firsts = np.repeat([each.first for each in ranges], [each.end - each.first for each in functions])
        whole, units = self._whole(weigh, sums - firsts[:, None, None, None], firsts)
        factors, parts = np.zeros(len(units), np.int64), []
        for own, line, table in zip(functions, ranges, tables, strict=True):
            factors[own.first : own.end], levelling = _levelled(units[own.first : own.end] / line.step)
            numbers = given.levels(table) + LEAST
            same = np.array_equal(numbers, np.arange(LEVELS) + LEAST)
            parts.append(Part(own.first, own.end, levelling, None if same else numbers))
        values = np.concatenate([f(sums[own.first : own.end]) for own, f in zip(functions, applied, strict=True)])
        self._put(weigh, values, _grid(given, len(values)))
        return Sums(whole, factors, parts)

    def _logits(self, weigh: Weigh) -> Logits:
        whole, units = self._whole(weigh, self._exact_sums(weigh), np.zeros(len(weigh.bias)))
        self._unit = float(np.float32(units.max()))  # as a header can say it
        return Logits(whole, np.rint(units / self._unit * (1 << LOGIT_BITS)).astype(np.int64))

    def _exact_sums(self, weigh: Weigh) -> Planes:
        sums = planes.sums(self._values, weigh, *self._size(weigh), len(self._images), np.float64)
        if not np.isfinite(sums).all():
            raise UnsupportedError("its values are not finite for the images that ranges are taken from")
        return sums

    def _whole(self, weigh: Weigh, wanted: Planes, firsts: Numbers) -> tuple[Weigh, Numbers]:
        """Sums of whole numbers, and what a sum of 1 stands for in each channel.

        The bias makes the sums what is wanted in the mean over all images, which rounded weights alone do not (Nagel et
        al., 2019, section 4.2).

        Args:
            wanted: what the sums should be.
            firsts: of each channel, what is subtracted from its sums for that.
        """
        places = weigh.terms
        scale, zero = np.zeros(len(places)), np.zeros(len(places))
        for value in np.unique(places.value):
            own, grid = places.value == value, self._grids[int(value)]
            scale[own], zero[own] = grid.scale[places.channel[own]], grid.zero[places.channel[own]]
        whole, units = weights.whole(weigh, weigh.weights * scale, zero, weigh.bias - firsts)
        found = planes.sums(self._numbers, whole, *self._size(weigh), len(self._images), np.int64)
        lacking = (wanted.mean((1, 2, 3)) / units - found.mean((1, 2, 3))).clip(-LIMIT, LIMIT)
        return replace(whole, bias=whole.bias + np.rint(lacking)), units

    def _products(self, scale: Scale) -> Products:
        found = planes.products(self._values, scale)
        given = _range_of(found)
        sources = self._grids[int(scale.planes.value[0])], self._grids[scale.gate]
        (factor,), levelling = _levelled(np.array([sources[0].scale[0] * sources[1].scale[0] / given.step]), given)
        self._put(scale, found, _grid(given, len(found)))
        return Products(scale, (sources[0].around, sources[1].around), int(factor), levelling)

    def _largest(self, one: Slide | Collect) -> Largest:
        source, channels = self._grids[int(one.planes.value[0])], one.planes.channel
        grid = Grid(source.scale[channels], source.zero[channels], source.around)
        self._put(one, planes.largest(self._values, one, *self._size(one)), grid)
        return Largest(one)

    def _means(self, one: Slide | Collect) -> Means:
        assert one.weights is not None
        size, source = self._size(one), self._grids[int(one.planes.value[0])]
        found = planes.totals(self._values, one, *size) * one.weights.reshape(*size, 1)
        given = _range_of(found)
        factors, levelling = _levelled(one.weights * source.scale[0] / given.step, given)
        self._put(one, found, _grid(given, len(found)))
        return Means(one, source.around, factors, levelling)


def _range_of(numbers: Planes) -> Range:
    """The range of numbers that no function is applied to."""
    return holding(chosen(numbers, lambda same: same).numbers)


def _grid(given: Range, channels: int) -> Grid:
    return Grid.shared(given.step, given.zero, channels)


def _levelled(factors: Numbers, given: Range | None = None) -> tuple[engine.Numbers, Levelling]:
    """Factors as whole numbers of 16 bits, and the levelling that they are for; level 0 is the sum 0 or of a range."""
    largest = float(factors.max())
    shift = MOST_SHIFT if not largest else min(max(FACTOR_BITS - int(np.ceil(np.log2(largest))), 1), MOST_SHIFT)
    whole = np.minimum(np.rint(factors * 2.0**shift), (1 << FACTOR_BITS) - 1).astype(np.int64)
    return whole, Levelling(shift, given.zero - LEAST if given else 0)


def _by_parameters(function: Function) -> list[Function]:
    """A function for each channel, where each has parameters of its own."""
    if function.parameters.ndim == 1 or function.end == function.first:
        return [function] if function.end > function.first else []
    channels = zip(function.parameters, range(function.first, function.end), strict=True)
    return [replace(function, parameters=own, first=channel, end=channel + 1) for own, channel in channels]


def _apply(function: Function, numbers: Numbers) -> Numbers:
    """f(x) = alpha g(beta x), in double precision."""
    alpha, beta, *own = (torch.tensor(float(each), dtype=torch.float64) for each in function.parameters)
    z = beta * torch.from_numpy(np.ascontiguousarray(numbers))
    with torch.no_grad():
        found = alpha * function.operator.function(z, *own)
    return np.asarray(found.numpy())
