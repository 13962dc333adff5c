"""Weights as 8-bit numbers, a scale for each channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from safs_ray.engine.passes import Weigh
from safs_ray.export.int8.ranges import Numbers

MOST = 127
"""The largest weight of 8 bits, with either sign."""

TYPICAL, TERMS = 16, 32
"""What a channel's median weight is at least, for which larger ones stand as several terms, and how many at most."""

COARSEST = 64
"""How many times as large the scale of a channel of a pass may be as that of another."""

SUM_BITS = 30
"""No sum has more, whatever the image."""


def whole(weigh: Weigh, scaled: Numbers, zero: Numbers, bias: Numbers) -> tuple[Weigh, Numbers]:
    """Sums with weights and biases that are whole numbers, and what a sum of 1 stands for in each channel.

    A weight that 8 bits do not hold is several terms: a residual sum has weights of 1 beside small ones.

    Args:
        scaled: of each term, its weight times what 1 stands for in the value that it reads.
        zero: of each term, the number that stands for 0 there.
        bias: of each channel.

    Returns:
        The sums of those numbers that are read there, and (channels,) the units.
    """
    units = _units(weigh, scaled, bias)
    channel = np.repeat(np.arange(len(bias)), np.diff(weigh.starts))
    numbers = np.rint(scaled / units[channel]).astype(np.int64)
    zeros = np.bincount(channel, numbers * zero, len(bias))
    pieces = -(-np.abs(numbers) // MOST)
    which = np.repeat(np.arange(len(numbers)), pieces)
    place = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    split = numbers[which] * (place + 1) // pieces[which] - numbers[which] * place // pieces[which]
    starts = np.searchsorted(channel[which], np.arange(len(bias) + 1))
    kept = {"starts": starts, "terms": weigh.terms[which], "weights": split.astype(np.float64)}
    made = replace(weigh, **kept, bias=np.rint(bias / units - zeros))
    return made, units


def _units(weigh: Weigh, scaled: Numbers, bias: Numbers) -> Numbers:
    """What 1 stands for in each channel's sums."""
    ends = zip(weigh.starts[:-1], weigh.starts[1:], strict=True)
    units = np.array([_unit(np.abs(scaled[first:end]), abs(own)) for (first, end), own in zip(ends, bias, strict=True)])
    units = np.maximum(units, units.max(initial=0) / COARSEST)
    return np.where(units > 0, units, 1.0)


def _unit(magnitudes: Numbers, bias: float) -> float:
    """Of a channel with weights of these magnitudes."""
    largest = float(magnitudes.max(initial=0))
    typical = float(np.median(magnitudes)) if largest else 0.0
    unit = max(min(largest / MOST, typical / TYPICAL), largest / (MOST * TERMS))
    return float(max(unit, (bias + 2 * MOST * magnitudes.sum()) / 2**SUM_BITS))
