"""The weighted group sparse envelope: a rule that draws all but the largest weights or channels to zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from safs_ray.pruning.rules import ChangingMasks
from safs_ray.pruning.structure import coupled, select


class SparseEnvelope(ChangingMasks):
    """A penalty on all but the largest weights or channels draws them to zero; at the end the largest stay.

    Weighted group sparse envelope function (WGSEF, Refael et al. 2023): the largest convex function below half the
    square of the weights where at most k groups are not zero, and infinity elsewhere. After every step the weights go
    through its proximal operator, which :func:`shares` computes, with ``section.strength`` times the learning rate. A
    group is a weight, or with structure filters all that computes a channel, with structure heads all that computes
    those of a head; all groups have the weight 1.
    """

    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:
        if self.step == self.end:
            return select(self._magnitudes(), self.section.sparsity, self.section, self.masks, self._network)
        shrink = self._shrink_channels if self.section.prunes_channels else self._shrink_weights
        shrink(self.section.strength * optimizer.param_groups[0]["lr"])
        return None

    @torch.no_grad()
    def _shrink_weights(self, strength: float) -> None:
        names = list(self._weights)
        for rivals in [[name] for name in names] if self.section.allocation == "layer" else [names]:
            weights = [self._weights[name] for name in rivals]
            part = shares(torch.cat([weight.abs().flatten() for weight in weights]), self.section.sparsity, strength)
            factors = torch.split(part / (part + strength), [weight.numel() for weight in weights])
            for weight, factor in zip(weights, factors, strict=True):
                weight.mul_(factor.view_as(weight))

    @torch.no_grad()
    def _shrink_channels(self, strength: float) -> None:
        coupling = coupled(self._network, self.section)
        squares, factors = torch.zeros(coupling.sets), torch.ones(coupling.sets)
        for name, sets in coupling.outputs.items():
            squares.index_add_(0, sets, self._weights[name].square().flatten(1).sum(1).cpu())
        layers = coupling.layers
        for rivals in layers if self.section.allocation == "layer" else [torch.cat(layers)]:
            part = shares(squares[rivals].sqrt(), self.section.sparsity, strength)
            factors[rivals] = part / (part + strength)
        for name, sets in coupling.outputs.items():
            weight = self._weights[name]
            weight.mul_(factors[sets].to(weight.device).view(-1, *[1] * (weight.dim() - 1)))


def shares(sizes: Tensor, sparsity: float, strength: float) -> Tensor:
    """How much of each group counts as kept, in [0, 1] (n,); in all as many as stay at the sparsity.

    The envelope is the least sum of size^2 / (2 share) over all shares in [0, 1] whose sum is k. So its proximal
    operator shrinks a group by share / (share + strength), and the shares are clip(a size - strength, 0, 1) with the a
    that makes their sum k. It is found by Newton's method between bounds, for that sum grows along straight pieces.

    Args:
        sizes: of the groups (n,), none negative.

    Examples:
        >>> shares(torch.tensor([4.0, 2.0, 1.0, 1.0]), sparsity=0.5, strength=0.1)
        tensor([1.0000, 0.5500, 0.2250, 0.2250])
    """
    exact, kept = sizes.double(), len(sizes) - round(sparsity * len(sizes))
    if int((sizes > 0).sum()) <= kept:
        return (sizes > 0).to(sizes.dtype)
    low, high = 0.0, (1 + strength) / exact.kthvalue(len(exact) - kept + 1).values.item() if kept else 0.0
    a = high
    for _ in range(MOST):
        part = (a * exact - strength).clamp(0, 1)
        excess = part.sum().item() - kept
        if abs(excess) <= 1e-9 * kept:
            break
        low, high = (low, a) if excess > 0 else (a, high)
        slope = exact[(part > 0) & (part < 1)].sum().item()
        a = a - excess / slope if slope else low
        if not low < a < high:
            a = (low + high) / 2
    return part.to(sizes.dtype)


MOST = 100
"""Steps in which the sum is met; it takes some ten."""
