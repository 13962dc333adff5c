"""What training a network takes, known before any of it is taken."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Footprint:
    """The memory of one step of training, and the batches that it can take.

    Attributes:
        weights: bytes of the parameters.
        image: bytes that each image of a batch keeps for the backward pass.
        single: whether a batch may be a single image, of which batch normalisation has no statistics.
    """

    weights: int
    image: int
    single: bool


def footprint(module: nn.Module, example: Tensor) -> Footprint:
    """Measure a module in training mode on a batch (N, C, H, W); on torch's meta device it costs no memory."""
    weights = [*module.parameters(), *module.buffers()]
    return Footprint(
        sum(parameter.nbytes for parameter in module.parameters()),
        _kept(module, example, {_storage(weight) for weight in weights}) // len(example),
        _takes(module, example[:1]),
    )


def _kept(module: nn.Module, example: Tensor, without: set[int]) -> int:
    """Bytes of all storages that a backward pass would read, the parameters' own left out."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(example)
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in without)


def _storage(tensor: Tensor) -> int:
    """Equal for tensors that share their memory."""
    return int(tensor.untyped_storage()._cdata)


def _takes(module: nn.Module, example: Tensor) -> bool:
    try:
        module(example)
    except Exception:  # a user's network may raise anything
        return False
    return True
