"""Random inputs to compare networks on, and what a network computes of them as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safs_ray.network import Network
from safs_ray.sparse.execution import executable


def original(network: Network) -> Callable[[Tensor], Tensor]:
    """A network as torch computes it, with all weights."""
    module, restored = executable(network, "dense", torch.device("cpu")).eval(), network.specification.restored
    return torch.inference_mode()(lambda inputs: restored(module(inputs)))


def drawn_for(network: Network, count: int, draws: torch.Generator) -> Tensor:
    """So many random inputs that a network takes: of all contrasts, or 0 and 1 where it takes numbers for indices."""
    inputs = network.specification.drawn(count, draws)
    if network.specification.kind == "float32":
        try:
            original(network)(inputs)
        except Exception:  # a user's network may raise anything
            return torch.randint(2, inputs.shape, generator=draws).to(inputs)
    return inputs
