"""Means, their spread, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.special import stdtrit

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
    if len(values) < 2:
        return Estimate(mean(values), None, None, None)
    deviation = stdev(values)
    half = _quantile(len(values) - 1) * deviation / len(values) ** 0.5
    return Estimate(mean(values), deviation, mean(values) - half, mean(values) + half)


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The mean of ``values[i] - others[i]``, with the t interval of the pairs.

    Examples:
        >>> paired_difference([3.0, 5.0, 7.0], [1.0, 3.0, 5.0])
        Estimate(mean=2.0, sd=0.0, low=2.0, high=2.0)
    """
    return estimate([value - other for value, other in zip(values, others, strict=True)])


def difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The difference of two means without pairs, with the interval of Welch (1947)."""
    middle = mean(values) - mean(others)
    if len(values) < 2 or len(others) < 2:
        return Estimate(middle, None, None, None)
    first, second = (stdev(each) ** 2 / len(each) for each in (values, others))
    if first + second == 0:
        return Estimate(middle, None, middle, middle)
    freedom = (first + second) ** 2 / (first**2 / (len(values) - 1) + second**2 / (len(others) - 1))
    half = _quantile(freedom) * (first + second) ** 0.5
    return Estimate(middle, None, middle - half, middle + half)


def _quantile(freedom: float) -> float:
    """What Student's t of so many degrees of freedom stays below with the probability that CONFIDENCE asks for."""
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
