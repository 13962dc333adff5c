"""Rules: which weights are zero in each step of a training.

The Trainer holds one rule and calls it twice in every step, before and after the optimizer moves the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from safs_ray.config import PruningSection
from safs_ray.pruning.masks import count_kept, hold_at_zero
from safs_ray.pruning.structure import Coupled


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
