"""Rules that prune while a network trains: little by little, by gradients, or back and forth; and the table of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim import Optimizer

from safs_ray.pruning.allocation import keep_highest
from safs_ray.pruning.envelope import SparseEnvelope
from safs_ray.pruning.rules import ChangingMasks, MaskRule
from safs_ray.pruning.structure import select
from safs_ray.pruning.turbo import TurboVBI


class GradualMasks(ChangingMasks):
    """The smallest weights go step by step, at first many and then few: s(t) = S (1 - (1 - t)^3).

    Zhu & Gupta 2017. A network that is sparse already begins there. What is zero stays zero.
    """

    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:  # noqa: ARG002
        if self.step % self.section.interval and self.step < self.end:
            return None
        end = self.section.sparsity
        sparsity = end + (self.begin - end) * (1 - self.step / self.end) ** 3
        return select(self._magnitudes(), sparsity, self.section, self.masks, self._network)


class GradientSelection(ChangingMasks):
    """In each step only the weights of the highest |w dL/dw| keep their gradients; the others decay.

    Global sparse momentum (GSM, Ding et al. 2019). As many keep theirs as shall be left, and at the end those of
    the highest |w| stay. Published with one ranking over all layers, Nesterov's momentum and weight decay.
    """

    @torch.no_grad()
    def before_step(self) -> None:
        if self.complete:
            return
        scores = {name: (weight * _gradient(weight)).abs() for name, weight in self._weights.items()}
        active = select(scores, self.section.sparsity, self.section, self.masks, self._network)
        for name, weight in self._weights.items():
            _gradient(weight).mul_(active[name])

    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:  # noqa: ARG002
        if self.step < self.end:
            return None
        return select(self._magnitudes(), self.section.sparsity, self.section, self.masks, self._network)


class RigL(ChangingMasks):
    """Every ``interval`` steps each layer drops its smallest weights and grows as many of the largest gradients.

    Rigging the Lottery (Evci et al. 2020): the fraction of its weights falls from 0.3 to 0 along a cosine. A
    grown weight begins at zero, with nothing in the optimizer's memory.
    """

    _gradients: Mapping[str, Tensor] = MappingProxyType({})
    """Of all weights, when some are about to be exchanged."""

    @property
    def complete(self) -> bool:
        return True

    @property
    def reads_dropped(self) -> bool:
        return self._exchanges(self.step + 1)

    @torch.no_grad()
    def before_step(self) -> None:
        """The gradients of what is dropped say what is to grow; the optimizer sees none of them."""
        if self.reads_dropped:
            self._gradients = {name: _gradient(weight).clone() for name, weight in self._weights.items()}
        super().before_step()

    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:
        if not self._exchanges(self.step):
            return None
        fraction = DROPPED / 2 * (1 + math.cos(math.pi * self.step / self.end))
        masks = {
            name: _regrown(self.masks[name], weight, self._gradients[name], fraction)
            for name, weight in self._weights.items()
        }
        self._gradients = {}
        for name, weight in self._weights.items():
            _forget(optimizer, weight, masks[name] & ~self.masks[name])
        return masks

    def _exchanges(self, step: int) -> bool:
        """Whether weights are exchanged after this step."""
        return step % self.section.interval == 0 and step < self.end


DROPPED = 0.3
"""The fraction of a layer's weights that RigL would drop at the very beginning."""


RULES: dict[str, Callable[..., MaskRule]] = {
    "gradual": GradualMasks,
    "gsm": GradientSelection,
    "rigl": RigL,
    "envelope": SparseEnvelope,
    "turbo-vbi": TurboVBI,
}
"""The schedules that work inside a training; each takes a MakeRule's arguments, a section and a network."""


def _gradient(weight: Tensor) -> Tensor:
    """The gradient of a weight; zeros where the loss does not depend on it."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


@torch.no_grad()
def _regrown(mask: Tensor, weight: Tensor, gradient: Tensor, fraction: float) -> Tensor:
    """The mask with a fraction of its weights exchanged. One that is dropped may grow again at once."""
    kept = int(mask.sum())
    count = round(fraction * kept)
    smallest_gone = keep_highest(torch.where(mask, weight.abs(), -torch.inf), mask.numel() - kept + count)
    candidates = torch.where(smallest_gone, -torch.inf, gradient.abs())
    return smallest_gone | keep_highest(candidates, mask.numel() - count)


def _forget(optimizer: Optimizer, weight: Tensor, places: Tensor) -> None:
    """Clear what the optimizer remembers of a weight's places: momentum, and second moments likewise."""
    for value in optimizer.state[weight].values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value.masked_fill_(places, 0)
