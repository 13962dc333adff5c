"""Allocations: which weights become zero, given their scores. True in a mask means kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Allocation = Callable[[Mapping[str, Tensor], float], dict[str, Tensor]]
"""Scores by name, and the fraction of them to drop in [0, 1), to masks by name."""


def layer(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """The same sparsity in every layer; each loses round(sparsity * n) weights, as in torch.nn.utils.prune.

    Examples:
        >>> scores = {"first": torch.tensor([[4.0, 3.0, 2.0, 1.0]]), "second": torch.tensor([[8.0, 7.0, 6.0, 5.0]])}
        >>> layer(scores, sparsity=0.5)
        {'first': tensor([[ True,  True, False, False]]), 'second': tensor([[ True,  True, False, False]])}
    """
    return {name: keep_highest(score, round(sparsity * score.numel())) for name, score in scores.items()}


def global_(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """One ranking over all layers; a layer of low scores may lose every weight.

    Examples:
        >>> scores = {"first": torch.tensor([[4.0, 3.0, 2.0, 1.0]]), "second": torch.tensor([[8.0, 7.0, 6.0, 5.0]])}
        >>> global_(scores, sparsity=0.5)
        {'first': tensor([[False, False, False, False]]), 'second': tensor([[True, True, True, True]])}
    """
    ranking = torch.cat([score.flatten() for score in scores.values()])
    kept = keep_highest(ranking, round(sparsity * ranking.numel()))
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def erk(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Densities by Erdos-Renyi-Kernel (Mocanu et al. 2018, Evci et al. 2020), round(sparsity * n) zeros in all.

    A layer's density is proportional to (n_in + n_out + kw + kh) / (n_in n_out kw kh), so that the number of its
    weights that stay is proportional to the sum of its dimensions; what does not fit into full layers goes to the
    others. Which weights of a layer stay is decided by their scores.

    One ranking over all layers: the j-th best of a layer's weights stays once the common factor of proportion is
    (j - 1/2) / (sum of dimensions). Counts so are rounded to the nearest, and never grow with the sparsity.
    """
    return global_({name: -_place(score) / sum(score.shape) for name, score in scores.items()}, sparsity)


def keep_highest(score: Tensor, dropped: int) -> Tensor:
    """A mask that drops exactly so many entries, the lowest; among equals those that come first."""
    if dropped <= 0:
        return torch.ones_like(score, dtype=torch.bool)
    flat = score.flatten()
    limit = flat.kthvalue(min(dropped, len(flat))).values  # several times faster than to sort all
    mask, equal = ~(flat < limit), flat == limit
    if limit.isnan():  # which no number is below, though all go first
        mask, equal = flat.isnan(), flat.isnan()
    surplus = dropped - int((~mask).sum())
    mask[equal.nonzero()[:surplus, 0]] = False
    return mask.view_as(score)


ALLOCATIONS: dict[str, Allocation] = {"layer": layer, "global": global_, "erk": erk}


def _place(score: Tensor) -> Tensor:
    """1/2 for a tensor's highest entry, 3/2 for the next and so on; among equals the last is the highest."""
    order = score.flatten().argsort(stable=True)
    places = torch.empty(score.numel(), dtype=torch.float64, device=score.device)
    places[order] = torch.arange(score.numel(), 0, -1, dtype=torch.float64, device=score.device) - 0.5
    return places.view_as(score)
