"""Allocations: which weights become zero, given their scores. True in a mask means kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def layer(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """The same sparsity in every layer; each loses round(sparsity * n) weights, as in torch.nn.utils.prune."""
    return {name: _keep_highest(score, sparsity) for name, score in scores.items()}


def global_(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """One ranking over all layers; a layer of low scores may lose every weight."""
    kept = _keep_highest(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def _keep_highest(score: Tensor, sparsity: float) -> Tensor:
    """Drop exactly round(sparsity * n) entries; among equals those that come first."""
    order = score.flatten().argsort(stable=True)
    mask = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    mask[order[: round(sparsity * score.numel())]] = False
    return mask.view_as(score)
