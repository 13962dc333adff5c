"""Rungs: epochs after which an evaluation stops when its curve says that its candidate would be rejected."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from statistics import median

Curve = Sequence[float]
"""Validation accuracy after every epoch so far, in [0, 1]."""

SURE = 0.9
"""Fraction of the gains seen that would leave a candidate rejected when it stops."""
FEWEST = 3
"""Gains that are needed to judge by."""


class Rungs:
    """What the whole evaluations of a chain gained after each rung, and so what a curve can still become.

    The gain after a rung is by how much the highest accuracy of the whole training exceeds the highest up to the
    rung. A candidate stops at a rung when its highest accuracy, even with the gain that is the quantile ``SURE`` of
    those seen there, is less than the strategy accepts.

    Args:
        epochs: the rungs, ascending; without any, nothing stops.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        self._gains: dict[int, list[float]] = {rung: [] for rung in epochs}

    def learn(self, curve: Curve) -> None:
        """Take the curve of a whole evaluation."""
        for rung, gains in self._gains.items():
            insort(gains, max(curve) - max(curve[:rung]))

    def stop(self, curve: Curve, limit: float) -> bool:
        """Whether a training with this curve so far stops here.

        Args:
            limit: the highest cost that the strategy accepts.
        """
        gains = self._gains.get(len(curve), [])
        if len(gains) < FEWEST:
            return False
        return 1 - max(curve) - gains[math.ceil(SURE * len(gains)) - 1] > limit

    def expected_cost(self, curve: Curve) -> float:
        """What the whole evaluation of a curve that stopped would cost, by the median gain.

        It lies beyond the limit too, since the median is no more than the gain by which it stopped: the candidate is
        rejected.
        """
        return 1 - max(curve) - median(self._gains[len(curve)])
