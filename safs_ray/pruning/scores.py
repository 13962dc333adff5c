"""Scores: how much each weight matters, in the shape of the weight. The lowest go first."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def magnitude(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|w| (Han et al. 2015)."""
    return {name: weight.abs() for name, weight in weights.items()}
