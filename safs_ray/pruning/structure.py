"""Structures: the patterns that masks may have."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from safs_ray.config import PruningSection, refusal
from safs_ray.pruning.allocation import ALLOCATIONS
from safs_ray.pruning.coupling import Coupling
from safs_ray.pruning.heads import Heads
from safs_ray.pruning.masks import PROJECTIONS
from safs_ray.pruning.scores import SIGNED


def select(
    scores: Mapping[str, Tensor],
    sparsity: float,
    section: PruningSection,
    within: Mapping[str, Tensor],
    network: Coupled,
    scales: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Masks that keep the highest scores, by the section's allocation and structure.

    Args:
        sparsity: fraction of all these weights to become zero, in [0, 1); structure N:M says itself.
        within: masks whose zeros stay zeros; weights that have none are whole.
        network: whose weights they are.
        scales: of batch normalisations, by their names, which count for whole channels.

    Raises:
        ConfigurationError: the structure is filters, and the network's channels cannot be followed, or scores are
            negative.
    """
    together = section.prunes_channels or section.block is not None
    if section.score in SIGNED and not together:
        scores = {name: score.abs() for name, score in scores.items()}
    if section.score not in SIGNED and together and any((score < 0).any() for score in scores.values()):
        reason = f"is negative for some weights, and {_piece(section)} counts by the size of its weights' scores"
        allowed = f"allowed with structure={section.structure}: scores from 0 on"
        raise refusal("pruning.score", section.score, f"{reason}; {allowed}")
    left = {
        name: torch.where(within[name], score, -torch.inf) if name in within else score
        for name, score in scores.items()
    }
    if section.prunes_channels:
        masks = channels(left, sparsity, section, coupled(network, section), scales)
    elif section.block:
        masks = _together(blocks(_apart(left), sparsity, section, section.block))
    elif section.n_of_m:
        masks = _together(n_of_m(_apart(left), *section.n_of_m))
    else:
        masks = _together(ALLOCATIONS[section.allocation](_apart(left), sparsity))
    return {name: mask & within[name] if name in within else mask for name, mask in masks.items()}


class Coupled(Protocol):
    """A network whose coupling is found when it is asked for."""

    @property
    def coupling(self) -> Coupling:
        """Which of its channels can only go together.

        Raises:
            ConfigurationError: they cannot be followed.
        """

    @property
    def heads(self) -> Heads:
        """Its attentions.

        Raises:
            ConfigurationError: they cannot be found.
        """


def coupled(network: Coupled, section: PruningSection) -> Coupling:
    """The channels that go together by a section's structure, which prunes channels: those of a head, or coupled ones.

    Raises:
        ConfigurationError: they cannot be found.
    """
    return network.heads.coupling if section.structure == "heads" else network.coupling


def _piece(section: PruningSection) -> str:
    return {"filters": "a channel", "heads": "a head"}.get(section.structure, "a block")


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


def blocks(
    scores: Mapping[str, Tensor], sparsity: float, section: PruningSection, block: tuple[int, int]
) -> dict[str, Tensor]:
    """Blocks of so many outputs and inputs of a layer, with all places of its kernels (Gray et al. 2017).

    A block counts by the root mean square of its scores, of signed scores by the size of their mean, so that those at
    the edges, which may be smaller, count alike. One block of each layer stays; but for that, and for half a block of
    each ranking, the sparsity is met.

    Args:
        sparsity: fraction of the weights that goes.

    Examples:
        >>> scores = {"weight": torch.tensor([[1.0, 1.0, 2.0, 2.0], [9.0, 1.0, 2.0, 2.0]])}
        >>> blocks(scores, 0.5, PruningSection(structure="blocks:2x2"), (2, 2))
        {'weight': tensor([[ True,  True, False, False],
                [ True,  True, False, False]])}
    """
    mean = _mean_size if section.score in SIGNED else _root_mean_square
    sizes = {name: mean(_tiles(score, block)) for name, score in scores.items()}
    ranks = torch.cat(list(sizes.values())).argsort(stable=True).argsort()  # of which no two are equal
    parts = torch.split(ranks.double(), [len(size) for size in sizes.values()])
    ranked = {name: _spread(part, scores[name], block) for name, part in zip(scores, parts, strict=True)}
    kept = ALLOCATIONS[section.allocation](ranked, sparsity)
    whole = {name: _tiles(mask.double(), block, filler=torch.nan).nanmean(1) >= 0.5 for name, mask in kept.items()}
    for name, part in zip(scores, parts, strict=True):
        whole[name][part.argmax()] = True
    return {name: _spread(mask, scores[name], block).clone() for name, mask in whole.items()}


def _tiles(score: Tensor, block: tuple[int, int], filler: float = -torch.inf) -> Tensor:
    """The entries of each block (blocks, entries), filled up where a block at the edge has fewer."""
    b, c = block
    places = score.flatten(2) if score.dim() > 2 else score[:, :, None]
    padded = pad(places, (0, 0, 0, -places.shape[1] % c, 0, -places.shape[0] % b), value=filler)
    rows, columns = padded.shape[0] // b, padded.shape[1] // c
    return padded.view(rows, b, columns, c, -1).transpose(1, 2).reshape(rows * columns, -1)


def _spread(values: Tensor, like: Tensor, block: tuple[int, int]) -> Tensor:
    """A value of each block (blocks,) at every weight of it."""
    b, c = block
    rows, columns = -(-like.shape[0] // b), -(-like.shape[1] // c)
    each = values.view(rows, columns).repeat_interleave(b, 0).repeat_interleave(c, 1)[: like.shape[0], : like.shape[1]]
    return each.view(*each.shape, *[1] * (like.dim() - 2)).expand(like.shape)


def channels(
    scores: Mapping[str, Tensor],
    sparsity: float,
    section: PruningSection,
    coupling: Coupling,
    scales: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Whole channels: the filters or neurons that compute them and the weights that read them (Li et al. 2017).

    Channels that are coupled go together, and the last one of a layer stays. Wide layers keep whole blocks of channels:
    runtimes compute 8 or 16 side by side, and ONNX Runtime has slow code alone where 4 does not divide their number.

    Args:
        sparsity: fraction of the channels, or of the multiply-adds where the section says ``macs``, that goes.
        scales: of batch normalisations, by their names.
    """
    size = _sum if section.score in SIGNED else _norm
    turn = _turns(importance(scores, coupling, size, scales), section.allocation, coupling)
    if section.macs is None:
        return coupling.masks(_kept(turn, sparsity, coupling), scores)
    allowed = (1 - sparsity) * coupling.multiply_adds_between(turn >= 0, scores)
    kept = _kept(turn, _limit(turn, allowed, coupling, scores), coupling)
    return coupling.masks(_filled(kept, turn, allowed, coupling, scores), scores)


def importance(
    scores: Mapping[str, Tensor],
    coupling: Coupling,
    size: Callable[[Tensor], Tensor],
    scales: Mapping[str, Tensor] = MappingProxyType({}),
) -> Tensor:
    """How much the channels of each set matter (sets,): the mean of what their layers say.

    A layer says the size of the scores of what computes a channel, another that of what reads it, and a batch
    normalisation between them its scale: behind one the size of the weights that compute a channel says little. Each
    counts in proportion to the mean over its channels, so that layers of other sizes count alike (Fang et al. 2023). A
    channel that has no finite score is -inf.

    Args:
        size: of the scores (n, …) of channels (n,).
        scales: of batch normalisations (channels,), by their names; empty where a score holds them already.
    """
    total = torch.zeros(coupling.sets, dtype=torch.float64)
    count = torch.zeros_like(total)

    def add(sets: Tensor, sizes: Tensor) -> None:
        finite = sizes[sizes.isfinite()]
        total.index_add_(0, sets, sizes / finite.mean().clamp(min=1e-30) if len(finite) else sizes)
        count.index_add_(0, sets, torch.ones_like(sizes))

    for name in sorted(coupling.outputs.keys() & scores.keys()):
        score = scores[name].cpu().double()
        add(coupling.outputs[name], size(score))
        add(coupling.inputs[name], size(score.transpose(0, 1)))
    for name in sorted(coupling.normalisations.keys() & scales.keys()):
        add(coupling.normalisations[name], scales[name].cpu().double().abs())
    return total / count.clamp(min=1)


def _turns(importance: Tensor, allocation: str, coupling: Coupling) -> Tensor:
    """At which sparsity, in (0, 1), the channels of each set go (sets,); infinite of those that stay."""
    turn = torch.full_like(importance, torch.inf, dtype=torch.float64)
    layers = coupling.layers
    for rivals in layers if allocation == "layer" else [torch.cat(layers)] if layers else []:
        order = importance[rivals].argsort(stable=True)
        turn[rivals[order]] = (torch.arange(len(order), dtype=torch.float64) + 0.5) / len(order)
    return turn


def _kept(turn: Tensor, limit: float, coupling: Coupling) -> Tensor:
    """The sets that stay at a sparsity (sets,): of each layer one at least, of wide layers whole blocks."""
    kept = turn >= limit
    for layer in coupling.layers:
        block = _block(layer)
        count = max(block, block * round(int(kept[layer].sum()) / block))
        kept[layer] = False
        kept[layer[turn[layer].argsort(descending=True, stable=True)[:count]]] = True
    return kept


def _block(layer: Tensor) -> int:
    """Of how many channels the number that a layer keeps is a multiple."""
    return next(block for least, block in BLOCKS.items() if len(layer) >= least)


def _filled(kept: Tensor, turn: Tensor, allowed: float, coupling: Coupling, like: Mapping[str, Tensor]) -> Tensor:
    """The sets that stay and, by their turns, as many more of single layers as the multiply-adds allow (sets,).

    At one sparsity for all, layers lose channels together: the last step may be a long one in a small network.
    """
    growing = {index: layer for index, layer in enumerate(coupling.layers) if not kept[layer].all()}
    while growing:
        index = max(growing, key=lambda each: float(turn[growing[each][~kept[growing[each]]]].max()))
        gone = growing[index][~kept[growing[index]]]
        more = kept.clone()
        more[gone[turn[gone].argsort(descending=True, stable=True)[: _block(growing[index])]]] = True
        fits = coupling.multiply_adds_between(more, like) <= allowed
        if fits:
            kept = more
        if not fits or kept[growing[index]].all():
            del growing[index]
    return kept


def least_share(coupling: Coupling, like: Mapping[str, Tensor]) -> float:
    """The share of the multiply-adds that is left however sparse a network shall be, in (0, 1]."""
    kept = _fewest(coupling)
    return coupling.multiply_adds_between(kept, like) / coupling.multiply_adds_between(kept | True, like)


def _fewest(coupling: Coupling) -> Tensor:
    """The sets that stay however sparse a network shall be (sets,): of each layer the least number of channels."""
    turn = torch.full((coupling.sets,), torch.inf, dtype=torch.float64)
    for layer in coupling.layers:
        turn[layer] = 0
    return _kept(turn, 1.0, coupling)


BLOCKS = {64: 16, 32: 8, 0: 1}
"""By the fewest channels of a layer: of how many the number that stays is a multiple."""


def _limit(turn: Tensor, allowed: float, coupling: Coupling, like: Mapping[str, Tensor]) -> float:
    """The lowest sparsity that leaves no more multiply-adds than are allowed, or the highest that there is."""
    limits: list[float] = [*turn[turn.isfinite()].sort().values.tolist(), 1.0]

    def is_enough(limit: float) -> bool:
        return coupling.multiply_adds_between(_kept(turn, limit, coupling), like) <= allowed

    return limits[min(bisect_left(limits, True, key=is_enough), len(limits) - 1)]


def _norm(score: Tensor) -> Tensor:
    """The L2 norm of each row; that of a row which is nowhere finite is -inf, so that it is the first to go."""
    return _of_finite(score, partial(torch.linalg.vector_norm, dim=1))


def _sum(score: Tensor) -> Tensor:
    """The size of the sum of each row, else as :func:`_norm`."""
    return _of_finite(score, lambda rows: rows.sum(1).abs())


def _root_mean_square(score: Tensor) -> Tensor:
    """Of the finite entries of each row, else as :func:`_norm`."""
    return _norm(score) / score.isfinite().sum(1).clamp(min=1).sqrt()


def _mean_size(score: Tensor) -> Tensor:
    """The size of the mean of the finite entries of each row, else as :func:`_norm`."""
    return _sum(score) / score.isfinite().sum(1).clamp(min=1)


def _of_finite(score: Tensor, size: Callable[[Tensor], Tensor]) -> Tensor:
    rows = score.flatten(1)
    finite = rows.isfinite()
    return torch.where(finite.any(1), size(torch.where(finite, rows, 0)), -torch.inf)
