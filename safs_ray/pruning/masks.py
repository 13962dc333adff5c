"""Masks: what can be pruned, holding zeros at zero, and counting what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from safs_ray.models.names import tensors_by_name

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers whose prunable weight is ``weight``, (outputs, inputs / groups, …)."""

PROJECTIONS = "in_proj_weight"
"""The parameter of attention that holds three matrices, those of queries, keys and values, above each other."""


def prunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """What can be pruned, by its name in the module's state; a tensor that has several names is there under the first.

    It is the weight of every convolution and linear layer, and every matrix of attention and of recurrent layers. The
    first name may be that of something else, such as an embedding whose weight a layer has.

    Examples:
        >>> module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
        >>> {name: tuple(weight.shape) for name, weight in prunable_weights(module).items()}
        {'0.weight': (4, 1, 3, 3), '3.weight': (10, 144)}
    """
    names = {id(tensor): names[0] for tensor, names in tensors_by_name(module)}
    found = dict.fromkeys(child.get_parameter(name) for child in module.modules() for name in _prunable(child))
    return {names[id(weight)]: weight for weight in found}


def _prunable(layer: nn.Module) -> list[str]:
    """The names of a layer's own prunable weights."""
    if isinstance(layer, LAYERS):
        return ["weight"]
    if isinstance(layer, nn.MultiheadAttention):  # its last projection is a linear layer
        return [name for name, own in layer.named_parameters(recurse=False) if name.endswith("proj_weight")]
    if isinstance(layer, nn.RNNBase):
        return [name for name, own in layer.named_parameters(recurse=False) if name.startswith("weight_")]
    return []


def unprunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of two dimensions or more that are never pruned, such as embeddings, by name."""
    prunable = {id(weight) for weight in prunable_weights(module).values()}
    return {name: each for name, each in module.named_parameters() if each.dim() > 1 and id(each) not in prunable}


@torch.no_grad()
def hold_at_zero(weights: Sequence[Tensor], dropped: Sequence[Tensor]) -> None:
    """Set each weight to exact zero, in place, where its bool tensor ``dropped`` (a mask's inverse) is True."""
    for weight, zeros in zip(weights, dropped, strict=True):
        weight.masked_fill_(zeros, 0)


def unsigned_zeros(tensor: Tensor) -> Tensor:
    """The tensor with +0.0 wherever it is -0.0, as half of the zeros are that a multiplication by a mask leaves.

    They compute the same, but have other bits: other hashes, and a file that compresses five times worse.
    """
    return tensor + 0.0 if tensor.is_floating_point() else tensor  # -0.0 + 0.0 is +0.0, all else stays as it is


def count_kept(masks: Mapping[str, Tensor]) -> int:
    """How many weights the masks keep."""
    return sum(int(mask.sum()) for mask in masks.values())
