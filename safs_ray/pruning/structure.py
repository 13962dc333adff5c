"""Structures: the patterns that masks may have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from safs_ray.config import PruningSection
from safs_ray.pruning.allocation import ALLOCATIONS, Allocation
from safs_ray.pruning.masks import PROJECTIONS


def select(
    scores: Mapping[str, Tensor], sparsity: float, section: PruningSection, within: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Masks that keep the highest scores, by the section's allocation and structure.

    Args:
        sparsity: fraction of all these weights to become zero, in [0, 1); structure N:M says itself.
        within: masks whose zeros stay zeros; weights that have none are whole.
    """
    left = _apart(
        {
            name: torch.where(within[name], score, -torch.inf) if name in within else score
            for name, score in scores.items()
        }
    )
    if section.n_of_m:
        masks = n_of_m(left, *section.n_of_m)
    elif section.structure == "filters":
        masks = filters(left, sparsity, ALLOCATIONS[section.allocation])
    else:
        masks = ALLOCATIONS[section.allocation](left, sparsity)
    return {name: mask & within[name] if name in within else mask for name, mask in _together(masks).items()}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of several matrices as so many: each is a layer of its own."""
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(PROJECTIONS):
            apart |= {f"{name}/{number}": matrix for number, matrix in enumerate(tensor.chunk(3))}
        else:
            apart[name] = tensor
    return apart


def _together(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`_apart`."""
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(name.partition("/")[0], []).append(tensor)
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in groups.items()}


def n_of_m(scores: Mapping[str, Tensor], n: int, m: int) -> dict[str, Tensor]:
    """Of every m consecutive input weights of a neuron or filter, the n highest stay (Zhou et al. 2021).

    Input weights (out, in, *kernel) are read with the input channels last, as accelerators lay them out. Where
    their number is no multiple of m, the last group is shorter and keeps n weights all the same.

    Examples:
        >>> n_of_m({"weight": torch.tensor([[1.0, 4.0, 3.0, 2.0]])}, 1, 2)
        {'weight': tensor([[False,  True,  True, False]])}
    """
    return {name: _n_of_m(score, n, m) for name, score in scores.items()}


def _n_of_m(score: Tensor, n: int, m: int) -> Tensor:
    channels_last = score.movedim(1, -1)
    rows = channels_last.flatten(1)
    padded = pad(rows, (0, -rows.shape[1] % m), value=-torch.inf)
    groups = padded.reshape(len(rows), -1, m)
    best = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True)
    return kept.flatten(1)[:, : rows.shape[1]].view(channels_last.shape).movedim(-1, 1)


def filters(scores: Mapping[str, Tensor], sparsity: float, allocate: Allocation) -> dict[str, Tensor]:
    """Whole filters and neurons, the rows of the weights (out, ...), by the L2 norm of their scores (Li et al. 2017).

    The last weight computes the network's outputs and stays whole. ``sparsity`` counts rows, of the others.
    """
    *hidden, last = scores
    norms = {name: _norm(scores[name]) for name in hidden}
    kept = allocate(norms, sparsity) if norms else {}
    rows = {name: kept[name].view(-1, *[1] * (scores[name].dim() - 1)).expand_as(scores[name]) for name in hidden}
    return {**{name: mask.clone() for name, mask in rows.items()}, last: torch.ones_like(scores[last]).bool()}


def _norm(score: Tensor) -> Tensor:
    """The L2 norm of each row; that of a row which is nowhere finite is -inf, so that it is the first to go."""
    rows = score.flatten(1)
    finite = rows.isfinite()
    return torch.where(finite.any(1), torch.where(finite, rows, 0).norm(dim=1), -torch.inf)
