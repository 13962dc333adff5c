"""Pruning as three pure steps: a score for every weight, an allocation of the zeros, a mask by layer.

:func:`find_masks` takes them for a network as it is, :mod:`safs_ray.pruning.rules` while a network trains.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from safs_ray.config import PruningSection
from safs_ray.pruning.masks import count_kept, hold_at_zero
from safs_ray.pruning.scores import ROUNDS, SCALED, Evidence, find_score
from safs_ray.pruning.structure import Coupled, select


def find_masks(
    evidence: Evidence, section: PruningSection, masks: Mapping[str, Tensor], network: Coupled
) -> dict[str, Tensor]:
    """Masks by name, bool tensors shaped as the weights, True where a weight is kept.

    Args:
        section: says the sparsity, the score, the allocation and the structure.
        masks: what is pruned already and stays so; empty for a dense network.
        network: that the evidence is of.

    Examples:
        >>> import torch
        >>> from safs_ray.models import Specification
        >>> from safs_ray.network import Network
        >>> network = Network.initial(Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> evidence = Evidence(network.build(), images=torch.zeros(1, 1, 8, 8), labels=torch.tensor([0]))
        >>> masks = find_masks(evidence, PruningSection(sparsity=0.75), {}, network)
        >>> {name: int(mask.sum()) for name, mask in masks.items()}  # of 19,200, 30,000 and 1,000
        {'fc1.weight': 4800, 'fc2.weight': 7500, 'fc3.weight': 250}
    """
    evidence = replace(evidence, module=copy.deepcopy(evidence.module))  # a round scores what the last one left
    weights = evidence.weights
    masks = {name: mask.to(weights[name].device) for name, mask in masks.items()}
    for sparsity in _sparsities(weights, section, masks):
        scales = evidence.scales if section.score in SCALED else {}
        masks = select(find_score(section.score)(evidence), sparsity, section, masks, network, scales)
        hold_at_zero([weights[name] for name in masks], [~mask for mask in masks.values()])
    return masks


def _sparsities(weights: Mapping[str, Tensor], section: PruningSection, masks: Mapping[str, Tensor]) -> list[float]:
    """The sparsity after each round: densities fall exponentially from what there is to what shall be."""
    rounds = 1 if section.n_of_m else ROUNDS.get(section.score, 1)
    total = sum(weight.numel() for weight in weights.values())
    end = 1 - section.sparsity
    # Never below the end: of filters that are left many weights may be gone already.
    start = max(end, count_kept(masks) / total) if masks else 1.0
    fall = end / start
    return [1 - start * fall ** (round_ / rounds) for round_ in range(1, rounds)] + [section.sparsity]
