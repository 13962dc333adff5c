"""Random inputs to compare networks on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safs_ray.models import Specification


def drawn_for(
    predict: Callable[[Tensor], Tensor], specification: Specification, count: int, draws: torch.Generator
) -> Tensor:
    """So many random inputs that a network takes: of all contrasts, or 0 and 1 where it takes numbers for indices.

    Args:
        predict: what the network computes.
    """
    inputs = specification.drawn(count, draws)
    if specification.kind == "float32":
        try:
            predict(inputs)
        except (IndexError, RuntimeError):
            return torch.randint(2, inputs.shape, generator=draws).to(inputs)
    return inputs
