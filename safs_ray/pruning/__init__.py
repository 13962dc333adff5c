"""Pruning as three pure steps: a score for every weight, an allocation of the zeros, a mask by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from safs_ray.pruning.allocation import global_, layer
from safs_ray.pruning.scores import magnitude

SCORES: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {"magnitude": magnitude}
ALLOCATIONS: dict[str, Callable[[Mapping[str, Tensor], float], dict[str, Tensor]]] = {
    "layer": layer,
    "global": global_,
}


def prune(weights: Mapping[str, Tensor], sparsity: float, score: str, allocation: str) -> dict[str, Tensor]:
    """Masks for these weights, by name: bool tensors shaped as the weights, True where a weight is kept.

    Args:
        sparsity: fraction of all these weights to become zero, in [0, 1).
        score: a key of SCORES.
        allocation: a key of ALLOCATIONS.
    """
    return ALLOCATIONS[allocation](SCORES[score](weights), sparsity)
