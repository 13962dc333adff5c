"""Masks in a training loop that is not the package's: weights held at zero whatever moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import unserializable_hook

from safs_ray.config import counted


class Holding:
    """Keeps the weights of a module at zero where masks say so.

    One place is not enough. The weights must be zero before an optimizer is made, so that no copy that it takes, such
    as the averages of schedule-free optimizers, brings any back; their gradients are zero, so that no step moves them,
    neither within a closure of L-BFGS; and they are set to zero after the step of every optimizer of the process, for
    one that mixes the entries of a matrix, as Muon does.

    Args:
        module: built from a network with these masks, whose weights are zero where they should be; else :meth:`hold`.
        masks: bool tensors by name of the weight, True where kept.

    Examples:
        >>> module = nn.Linear(4, 1, bias=False)
        >>> holding = Holding(module, {"weight": torch.tensor([[True, False, True, False]])})
        >>> holding.hold()
        >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        >>> with holding.during():
        ...     for _ in range(3):
        ...         module(torch.ones(1, 4)).square().sum().backward()
        ...         optimizer.step()
        >>> (module.weight == 0).tolist(), holding.fault
        ([[False, True, False, True]], None)
    """

    def __init__(self, module: nn.Module, masks: Mapping[str, Tensor]) -> None:
        self._module = module
        self._dropped = {name: ~mask.to(module.get_parameter(name).device) for name, mask in masks.items()}

    @torch.no_grad()
    def hold(self) -> None:
        """Set to zero what the masks drop."""
        for weight, dropped in self._weights():
            weight.masked_fill_(dropped, 0)

    @contextmanager
    def during(self) -> Iterator[None]:
        """While a loop trains: gradients and steps are watched."""
        hooks: list[Any] = [_mask_gradient(weight, dropped) for weight, dropped in self._weights()]
        if self._dropped:
            hooks.append(register_optimizer_step_post_hook(self._after_step))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def fault(self) -> str | None:
        """What is not zero and should be, in words; None where the masks hold."""
        for name, (weight, dropped) in zip(self._dropped, self._weights(), strict=True):
            moved = torch.logical_and(weight.detach(), dropped)
            if moved.any():  # counted only then: this is asked often, and of all weights
                alive = int(moved.sum())
                return f"{counted(alive, 'pruned weight')} of {name} {'is' if alive == 1 else 'are'} not zero"
        return None

    def _weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each weight, as a loop may have exchanged it, and what of it is dropped, on the device that it is on now."""
        for name, dropped in self._dropped.items():
            owner, _, own = name.rpartition(".")
            weight: Tensor = getattr(self._module.get_submodule(owner), own)  # no parameter in torch.func's calls
            yield weight, dropped.to(weight.device)

    def _after_step(self, _optimizer: Optimizer, _arguments: Any, _keywords: Any) -> None:
        self.hold()


def _mask_gradient(weight: Tensor, dropped: Tensor) -> Any:
    def masked(gradient: Tensor) -> Tensor:
        return gradient.masked_fill(dropped.to(gradient.device), 0)

    # What pickles the module need not be told that hooks stay behind.
    return weight.register_hook(unserializable_hook(masked))  # type: ignore[no-untyped-call]
