"""Rules: which weights are zero in each step of a training.

The Trainer holds one rule and calls it twice in every step, before and after the optimizer moves the weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from safs_ray.config import PruningSection
from safs_ray.pruning.allocation import keep_highest
from safs_ray.pruning.masks import count_kept, hold_at_zero
from safs_ray.pruning.structure import Coupled, coupled, select


class MaskRule(Protocol):
    """Decides which weights of a network that trains are zero.

    Attributes:
        masks: as they are now, by name of the weight: bool tensors, True where kept; never changed in place.
    """

    masks: Mapping[str, Tensor]

    @property
    def complete(self) -> bool:
        """Whether the network has reached its sparsity; only then can an epoch be its best one."""

    @property
    def reads_dropped(self) -> bool:
        """Whether the step to come needs the gradients of dropped weights, too."""

    def before_step(self) -> None:
        """The gradients are there, the weights have not moved."""

    def after_step(self, optimizer: Optimizer) -> None:
        """The weights have moved."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which :meth:`load_state_dict` goes on exactly, between any two steps."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a rule of the same arguments was."""


MakeRule = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], int], MaskRule]
"""Makes a rule of the prunable weights by name, the masks to begin with, and the number of steps to come."""


class FixedMasks:
    """The masks stay as they are: what is zero is held at zero.

    Args:
        weights: the prunable weights by name, on the device where they train.
        masks: of all weights, or of none.
        steps: length of the training.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        steps: int,  # noqa: ARG002
    ) -> None:
        self._weights = {name: weights[name] for name in masks}
        self._set(masks)

    @property
    def complete(self) -> bool:
        return True

    @property
    def reads_dropped(self) -> bool:
        return False

    def before_step(self) -> None:
        """What is dropped has no gradient, and so no part in the norms that an optimizer may take."""
        for weight, dropped in zip(self._weights.values(), self._dropped, strict=True):
            if weight.grad is not None:
                weight.grad.masked_fill_(dropped, 0)

    def after_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002
        """Here, so that momentum and decay revive nothing."""
        hold_at_zero(list(self._weights.values()), self._dropped)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _set(self, masks: Mapping[str, Tensor]) -> None:
        self.masks: Mapping[str, Tensor] = {name: mask.to(self._weights[name].device) for name, mask in masks.items()}
        self._dropped = [~mask for mask in self.masks.values()]


class ChangingMasks(FixedMasks, ABC):
    """Masks of all weights that change until the step ``end`` and then stay.

    Attributes:
        step: steps done.
        begin: the sparsity that the network came with.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        steps: int,
        section: PruningSection,
        network: Coupled,
    ) -> None:
        whole = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        super().__init__(weights, {**whole, **masks}, steps)
        self.section, self._network = section, network
        self.step = 0
        self.end = max(1, round(section.until * steps))
        self.begin = 1 - count_kept(self.masks) / sum(mask.numel() for mask in self.masks.values())

    @abstractmethod
    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:
        """The masks after ``step``, which is ``end`` at most; None where they stay as they are."""

    @property
    def complete(self) -> bool:
        return self.step >= self.end

    def after_step(self, optimizer: Optimizer) -> None:
        super().after_step(optimizer)
        self.step += 1
        masks = self.changed(optimizer) if self.step <= self.end else None
        if masks is not None:
            self._set(masks)
            super().after_step(optimizer)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "masks": dict(self.masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._set(state["masks"])

    def _magnitudes(self) -> dict[str, Tensor]:
        return {name: weight.detach().abs() for name, weight in self._weights.items()}


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

RULES: dict[str, Callable[..., MaskRule]] = {
    "gradual": GradualMasks, "gsm": GradientSelection, "rigl": RigL, "envelope": SparseEnvelope
}  # fmt: skip
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
