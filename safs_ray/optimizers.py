"""The optimizers and learning-rate schedules of the published hyperparameter space, by name.

TAdam and Fromage, which torch lacks, are written here because the packages that have them do not suit. Of those with
TAdam, tmomentum names no licence, and pylocron fails on scalars, such as alpha and beta, and brings a web server.
pytorch-optimizer's Fromage is the authors' code, which may not be used commercially, and decays no weights.

A weight that a mask dropped is no parameter any more. Both rest on sums over whole tensors, and rely on
gradients that are zero where weights were dropped.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer, lr_scheduler

from safs_ray.config import Hyperparameters

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
"""Of TAdam's moments: those of the paper and of torch's Adam."""

Groups = list[dict[str, Any]]
"""Parameter groups, as torch takes them."""

Tensors = Mapping[Tensor, Tensor]
"""Of parameters (values,) or (networks, values) that hold several tensors: the number of the tensor of every value."""


class Eager(Optimizer):
    """An optimizer that no compiler looks into.

    torch guards these methods against torch.compile: the first call of any of them imports the compiler, which takes a
    second and 170 MB of every process. What is below the guards does the same.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class SGD(Eager, optim.SGD):
    """torch's."""

    step = torch.no_grad()(inspect.unwrap(optim.SGD.step))


class Adam(Eager, optim.Adam):
    """torch's."""

    step = torch.no_grad()(inspect.unwrap(optim.Adam.step))


class AdamW(Eager, optim.AdamW):
    """torch's, which is Adam with another decay of the weights."""

    step = torch.no_grad()(inspect.unwrap(optim.AdamW.step))


class PerTensor(Eager, ABC):
    """An optimizer that treats each tensor on its own; what has no gradient, such as a frozen scale, stays.

    Args:
        groups: parameter groups; their ``weight_decay`` is an L2 penalty, added to the gradient.
        lr: learning rate, for which torch's schedules want this name.
        tensors: of parameters that hold several tensors; any other is one.
    """

    def __init__(self, groups: Groups, lr: float, tensors: Tensors | None = None) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self._tensors = {parameter: (own, int(own.max()) + 1) for parameter, own in (tensors or {}).items()}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
                    self._update(parameter, gradient, group["lr"])

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        """Move a parameter along its gradient, weight decay included."""

    def _sum(self, parameter: Tensor, values: Tensor) -> Tensor:
        """The sum over each tensor of a parameter, in the place of each of its values or for all at once."""
        if parameter not in self._tensors:
            return values.sum()
        numbers, count = self._tensors[parameter]
        rows = values.reshape(-1, len(numbers))
        numbers = numbers.expand_as(rows)
        sums = rows.new_zeros(len(rows), count).scatter_add_(1, numbers, rows)
        return sums.gather(1, numbers).view_as(values)


class TAdam(PerTensor):
    """Adam whose first moment gives outliers little weight (Ilboudo, Kobayashi & Sugimoto 2020, arXiv 2003.00179).

    For a tensor p of d elements with gradient g, the mean m of its gradients being that of a Student-t distribution
    with d degrees of freedom::

        w = 2 d / (d + sum((g - m)² / (v + ε)))
        m = (W m + w g) / (W + w)
        W = (2 - 1 / β₁) W + w
        v = β₂ v + (1 - β₂) g²
        p = p - lr m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)

    from m = v = 0 and W = β₁ / (1 - β₁); with w = 1 it is Adam. The first steps are short: before v knows of any
    gradient, every gradient is an outlier. d counts the elements that have had a gradient, so that dropped weights
    do not dilute the sum. Weight decay is an L2 penalty, as in the authors' code. Their later package, with which
    SAFS was published, has W = β₁ (W + w).
    """

    def _update(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["weight"] = parameter.new_tensor(FIRST_DECAY / (1 - FIRST_DECAY))
        mean, square, past = state["mean"], state["square"], state["weight"]
        state["step"] += 1
        distance = self._sum(parameter, (gradient - mean).square() / (square + EPSILON))
        square.lerp_(gradient.square(), 1 - SECOND_DECAY)
        elements = self._sum(parameter, (square != 0).to(square.dtype)).clamp(min=1)
        weight = 2 * elements / (elements + distance)
        mean.lerp_(gradient, weight / (past + weight))
        state["weight"] = past * (2 - 1 / FIRST_DECAY) + weight
        deviation = (square / (1 - SECOND_DECAY ** state["step"])).sqrt() + EPSILON
        parameter.addcdiv_(mean, deviation, value=-rate / (1 - FIRST_DECAY ** state["step"]))


class Fromage(PerTensor):
    """Steps of a length relative to the weights (Bernstein, Vahdat, Yue & Liu 2020, arXiv 2002.03432).

    For a tensor p with gradient g::

        p = (p - lr g |p| / |g|) / √(1 + lr²)

    with Euclidean norms; where one of them is 0, their ratio is taken as 1, as the authors do. So a scale never
    changes its sign while lr < 1. The method has no weight decay of its own; here it is an L2 penalty, part of g.
    """

    def _update(self, parameter: Tensor, gradient: Tensor, rate: float) -> None:
        length, slope = self._norm(parameter, parameter), self._norm(parameter, gradient)
        ratio = torch.where((length > 0) & (slope > 0), length / slope, 1.0)
        parameter.sub_(rate * ratio * gradient).div_(math.sqrt(1 + rate**2))

    def _norm(self, parameter: Tensor, values: Tensor) -> Tensor:
        return self._sum(parameter, values.square()).sqrt()


OPTIMIZERS: dict[str, Callable[[Groups, Hyperparameters, Tensors], Optimizer]] = {
    "sgd": lambda groups, chosen, _: SGD(
        groups, lr=chosen.learning_rate, momentum=chosen.momentum, nesterov=chosen.nesterov, fused=True
    ),
    "adam": lambda groups, chosen, _: Adam(groups, lr=chosen.learning_rate, fused=True),
    "adamw": lambda groups, chosen, _: AdamW(groups, lr=chosen.learning_rate, fused=True),
    "tadam": lambda groups, chosen, tensors: TAdam(groups, chosen.learning_rate, tensors),
    "fromage": lambda groups, chosen, tensors: Fromage(groups, chosen.learning_rate, tensors),
}
"""Fused: one call for all parameters, of which sparse networks have many small ones."""

SCHEDULES: dict[str, Callable[[Optimizer, int], lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, epochs: lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=epochs),
    "cosine": lambda optimizer, epochs: lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs),
    # T_0 and T_mult make three cycles, each twice as long as the one before.
    "cosine warm restarts": lambda optimizer, epochs: lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=max(1, math.ceil(epochs / 7)), T_mult=2
    ),
    "halving": lambda optimizer, _: lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5),
    "step": lambda optimizer, epochs: lr_scheduler.StepLR(optimizer, step_size=max(1, math.ceil(epochs / 3))),
    "linear": lambda optimizer, epochs: lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.01, total_iters=epochs
    ),
    "plateau": lambda optimizer, epochs: lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=max(1, epochs // 8)
    ),
}
"""The seven schedules of the published search, by name: optimizer and whole length in epochs to schedule."""
