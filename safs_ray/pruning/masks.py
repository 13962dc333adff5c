"""Masks: what can be pruned, holding zeros at zero, and counting what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def prunable_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weight of every convolution and linear layer, by its name in the module's state."""
    return {
        f"{path}.weight" if path else "weight": child.weight
        for path, child in module.named_modules()
        if isinstance(child, PRUNABLE)
    }


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
