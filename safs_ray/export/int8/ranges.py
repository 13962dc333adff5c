"""The 256 levels of a range of numbers, so that what becomes of them is rounded least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from safs_ray.export.int8.integers import LEAST, LEVELS

Numbers = npt.NDArray[np.floating[Any]]

SAMPLE = 4096
"""Numbers that a range is chosen by, beside the least and the largest."""

CANDIDATES, ROUNDS = 12, 3
"""Ends of a range that are tried in a round, and rounds, each four times finer than the one before."""


@dataclass(frozen=True)
class Range:
    """Numbers ``first``, ``first + step``, …, 256 in all; ``first`` is a whole number of steps."""

    first: float
    step: float

    @classmethod
    def between(cls, least: float, most: float) -> Range:
        """From one number to another; numbers that are all alike are stretched to 0."""
        if most - least <= 1e-6 * max(abs(least), abs(most)):
            least, most = min(least, 0.0), max(most, 0.0)
        step = (most - least) / (LEVELS - 1) or 1.0
        return cls(round(least / step) * step, step)

    @property
    def numbers(self) -> Numbers:
        return self.first + self.step * np.arange(LEVELS)

    def levels(self, numbers: Numbers) -> npt.NDArray[np.int64]:
        """The nearest levels."""
        levels = np.clip(np.rint((numbers - self.first) / self.step), 0, LEVELS - 1)
        return np.asarray(levels, np.int64)

    @property
    def zero(self) -> int:
        """The 8-bit number that stands for 0, of a range that holds it."""
        return LEAST - round(self.first / self.step)


def holding(*numbers: Numbers) -> Range:
    """The range of numbers and of 0, which the border of a plane consists of."""
    return Range.between(min(0.0, *(each.min() for each in numbers)), max(0.0, *(each.max() for each in numbers)))


def chosen(numbers: Numbers, function: Callable[[Numbers], Numbers]) -> Range:
    """The range of a function's arguments by which its values, as 8-bit numbers, have the least squared error.

    Args:
        numbers: arguments that occur, of any shape.
        function: of numbers, one by one.
    """
    ends = float(numbers.min()), float(numbers.max())
    sample, weights = _sample(numbers.ravel(), ends)
    wanted, span = function(sample), ends[1] - ends[0]

    def error(candidate: tuple[float, float]) -> float:
        own = Range.between(*candidate)
        values = function(own.numbers)
        given = holding(values)
        found = given.numbers[given.levels(values)][own.levels(sample)]
        return float(np.square(found - wanted) @ weights)

    for fineness in range(ROUNDS):
        for end in (0, 1):
            ends = min(_moved(ends, end, span / 4**fineness), key=error)
    return Range.between(*ends)


def _moved(ends: tuple[float, float], end: int, span: float) -> list[tuple[float, float]]:
    """A range, and those with one end moved inwards, or outwards again, by up to a span, or to 0."""
    least, most = ends
    steps = span * np.arange(1, CANDIDATES + 1) / CANDIDATES
    found = [ends, *((least + step, most) if end == 0 else (least, most - step) for step in (*steps, *-steps / 4))]
    found.append((0.0, most) if end == 0 else (least, 0.0))
    return [each for each in found if each[0] <= each[1]]


def _sample(numbers: Numbers, ends: tuple[float, float]) -> tuple[Numbers, Numbers]:
    """Some of many numbers, the same ones every time, and the ends; and how many numbers each stands for."""
    if len(numbers) > SAMPLE:
        chosen = np.random.default_rng(0).integers(len(numbers), size=SAMPLE)
        return np.append(numbers[chosen], ends), np.append(np.full(SAMPLE, len(numbers) / SAMPLE), [1.0, 1.0])
    return numbers, np.ones(len(numbers))
