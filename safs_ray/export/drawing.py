"""Random inputs to compare networks on, and what a network computes of them as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse.execution import executable

Predict = Callable[[Tensor], Tensor]
"""Inputs (N, …) as a user has them, such as uint8 images (N, C, H, W), to outputs (N, outputs)."""


def original(network: Network) -> Predict:
    """A network as torch computes it, with all weights."""
    module, restored = executable(network, "dense", torch.device("cpu")).eval(), network.specification.restored
    return torch.inference_mode()(lambda inputs: restored(module(inputs)))


@torch.no_grad()
def drawn_for(predict: Predict, specification: Specification, count: int, draws: torch.Generator) -> Tensor:
    """So many random inputs that a network takes: of all contrasts, or 0 and 1 where it takes numbers for indices.

    Args:
        predict: what it computes.
    """
    inputs = specification.drawn(count, draws)
    if specification.kind == "float32":
        try:
            predict(inputs)
        except Exception:  # a user's network may raise anything
            return torch.randint(2, inputs.shape, generator=draws).to(inputs)
    return inputs
