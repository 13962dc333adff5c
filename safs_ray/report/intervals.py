"""Means, their spread, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with what is known of its uncertainty.

    Attributes:
        sd: sample standard deviation of the values, or of the differences of pairs; None of a single value, and for
            a difference without pairs.
        low, high: the interval that Student's t gives the mean at CONFIDENCE; None where single values leave none.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values with its t interval.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("the mean of no values")
    middle = mean(values)
    if len(values) < 2:
        return Estimate(middle, None, None, None)
    deviation = stdev(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return Estimate(middle, deviation, middle - half, middle + half)


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The mean of ``values[i] - others[i]``, with the t interval of the pairs."""
    return estimate([value - other for value, other in zip(values, others, strict=True)])


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The difference of two means without pairs, with the interval of Welch's t."""
    middle = mean(values) - mean(others)
    if len(values) < 2 or len(others) < 2:
        return Estimate(middle, None, None, None)
    if stdev(values) == stdev(others) == 0:
        return Estimate(middle, None, middle, middle)
    found = stats.ttest_ind(values, others, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(middle, None, float(found.low), float(found.high))
