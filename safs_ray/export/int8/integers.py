"""What a network does for an image in 8-bit integers: the passes of the engine over whole numbers.

A number q of a value stands for ``scale * (q - zero)``. A pass sums whole numbers up in 32 bits and brings the sum to
one of 256 levels, from which a table leads to the number that the activation gives. Nothing else is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safs_ray.engine.passes import Collect, Pass, Passes, Read, Scale, Slide, Value, Weigh, Weights

Whole = npt.NDArray[np.int64]

LEAST, LEVELS = -128, 256
"""The least number of a value, and how many there are."""

PIXEL_BITS, LOGIT_BITS = 16, 15
"""Bits behind the point of the factor of a pixel, and of those of logits."""


@dataclass(frozen=True)
class Grid:
    """What the numbers of a value stand for.

    Attributes:
        scale, zero: of each channel; see the head of this module.
        around: the whole number that stands for 0, around the planes.
    """

    scale: Weights
    zero: Weights
    around: int

    @classmethod
    def shared(cls, scale: float, zero: int, channels: int) -> Grid:
        """Of a value whose channels are all alike."""
        return cls(np.full(channels, scale), np.full(channels, float(zero)), zero)


@dataclass(frozen=True)
class Levelling:
    """How a sum becomes a level: ``factor * sum`` without its last ``shift`` bits, rounded, and ``first`` more.

    What lies below 0 becomes 0, and what lies above 255 becomes 255.
    """

    shift: int
    first: int = 0

    def __call__(self, sums: Whole, factors: Whole) -> Whole:
        scaled = sums * factors + ((2 * self.first + 1) << (self.shift - 1))
        return np.asarray(np.clip(scaled >> self.shift, 0, LEVELS - 1))


@dataclass(frozen=True)
class Part:
    """Channels ``first`` to ``end`` of sums, and the function that they have.

    Attributes:
        table: (256,) the number that each level leads to; None where that is the level less 128.
    """

    first: int
    end: int
    levelling: Levelling
    table: Whole | None


@dataclass(frozen=True)
class Pixels:
    """The images: ``pixel * factor``, without its last 16 bits, rounded, and a summand for each channel."""

    read: Read
    factor: int
    summands: Sequence[int]


@dataclass(frozen=True)
class Sums:
    """A bias and terms times weights, by channel, as 8-bit numbers.

    Attributes:
        weigh: its weights are whole numbers of 8 bits, its biases of 32.
        factors: of each channel, of 16 bits.
    """

    weigh: Weigh
    factors: Whole
    parts: Sequence[Part]


@dataclass(frozen=True)
class Logits:
    """The logits, which are not brought to levels: sums times factors, without the last 15 bits."""

    weigh: Weigh
    factors: Whole


@dataclass(frozen=True)
class Products:
    """Planes times numbers, each counted from its zero."""

    scale: Scale
    zeros: tuple[int, int]
    factor: int
    levelling: Levelling


@dataclass(frozen=True)
class Largest:
    """The largest number of every window."""

    windows: Slide | Collect


@dataclass(frozen=True)
class Means:
    """The sum of every window, counted from a zero, times the factor of the pixel."""

    windows: Slide | Collect
    zero: int
    factors: Whole
    levelling: Levelling


IntegerPass = Pixels | Sums | Logits | Products | Largest | Means


@dataclass(frozen=True)
class IntegerProgram:
    """A network in whole numbers.

    Attributes:
        around: of each value, what stands around its planes.
        unit: what a logit of 1 stands for.
    """

    values: Sequence[Value]
    around: Sequence[int]
    passes: Sequence[IntegerPass]
    logits: int
    unit: float

    @property
    def geometry(self) -> Passes:
        """What every pass reads and writes."""
        return Passes(self.values, [geometry(each) for each in self.passes], self.logits)


def geometry(one: IntegerPass) -> Pass:
    """The pass of the engine whose planes a pass reads and writes."""
    match one:
        case Pixels(read):
            return read
        case Sums(weigh) | Logits(weigh):
            return weigh
        case Products(scale):
            return scale
        case Largest(windows) | Means(windows):
            return windows
