"""A model of a chain's own evaluations, which says what of several candidates to evaluate next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from safs_ray.search.assignment import Assignment

FEWEST = 3
"""Evaluations that are needed to predict by."""
NOISE = 0.5
"""Variance of the costs that operators do not add up to, as a fraction of all of it."""
DIGITS = 9
"""Of an expected improvement, in standard deviations: what differs less is a tie, on every machine."""

Array = npt.NDArray[np.float64]


class Predictor:
    """Takes the candidate of the highest expected improvement (Jones, Schonlau & Welch 1998) on the lowest cost.

    What is expected comes from Bayesian linear regression (MacKay 1992) of the costs on which operator each site has.
    Where candidates are equal to it, the first is taken.

    Attributes:
        evaluated: assignments and their costs, in the order of evaluation.
    """

    def __init__(self) -> None:
        self.evaluated: list[tuple[Assignment, float]] = []

    def learn(self, assignment: Assignment, cost: float) -> None:
        self.evaluated.append((assignment, cost))

    def choose(self, candidates: Sequence[Assignment]) -> Assignment:
        """The most promising of one candidate or more, among those that are not evaluated yet if there are any."""
        known = {assignment for assignment, _ in self.evaluated}
        new = [candidate for candidate in candidates if candidate not in known] or candidates
        if len(known) < FEWEST:
            return new[0]
        return new[int(np.argmax(np.round(self._expected_improvement(new), DIGITS)))]

    def _expected_improvement(self, candidates: Sequence[Assignment]) -> Array:
        """By how much each is expected to fall below the lowest cost, in standard deviations of the costs."""
        assignments = [assignment for assignment, _ in self.evaluated]
        places = sorted({place for each in (*assignments, *candidates) for place in enumerate(each)})
        costs = np.array([cost for _, cost in self.evaluated])
        costs = (costs - costs.mean()) / (costs.std() or 1.0)
        seen, new = _columns(assignments, places), _columns(candidates, places)
        # Each operator's effect has the variance 1 / sites, so that an assignment has that of the costs.
        covariance = np.linalg.inv(seen.T @ seen / NOISE + len(candidates[0]) * np.eye(len(places)))
        mean = new @ covariance @ seen.T @ costs / NOISE
        deviation = np.sqrt(((new @ covariance) * new).sum(axis=1))
        better = (costs.min() - mean) / deviation
        improvement: Array = deviation * (better * ndtr(better) + np.exp(-(better**2) / 2) / np.sqrt(2 * np.pi))
        return improvement


def _columns(assignments: Sequence[Assignment], places: Sequence[tuple[int, str]]) -> Array:
    """A row for each assignment: 1 where it has the operator at the site, else 0."""
    return np.array([[float(assignment[site] == name) for site, name in places] for assignment in assignments])
