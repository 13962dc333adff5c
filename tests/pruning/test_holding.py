from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Muon, Optimizer

from safs_ray.pruning.holding import Holding


class ScheduleFree(Optimizer):
    """What schedule-free optimizers do to weights (Defazio et al. 2024): the average x is swapped in by eval()."""

    def __init__(self, parameters: Iterator[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "beta": 0.9, "count": 0})
        for weight in self._weights():
            self.state[weight]["z"] = weight.detach().clone()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        [group] = self.param_groups
        group["count"] += 1
        for weight in self._weights():
            z = self.state[weight]["z"]
            x = (weight - (1 - group["beta"]) * z) / group["beta"]
            z.sub_(weight.grad, alpha=group["lr"])
            x.lerp_(z, 1 / group["count"])
            weight.copy_(group["beta"] * x + (1 - group["beta"]) * z)

    @torch.no_grad()
    def eval(self) -> None:
        [group] = self.param_groups
        for weight in self._weights():
            z = self.state[weight]["z"]
            weight.copy_((weight - (1 - group["beta"]) * z) / group["beta"])

    def _weights(self) -> list[nn.Parameter]:
        return [weight for group in self.param_groups for weight in group["params"]]


class Twice(SGD):
    """Of a class that calls the step of its base: the hooks of both may run."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def schedule_free(parameters: Iterator[nn.Parameter]) -> Optimizer:
    schedulefree = pytest.importorskip("schedulefree")
    optimizer: Optimizer = schedulefree.AdamWScheduleFree(parameters, lr=0.01, weight_decay=0.1)
    optimizer.train()  # type: ignore[attr-defined]
    return optimizer


def lookahead(parameters: Iterator[nn.Parameter]) -> Optimizer:
    optim = pytest.importorskip("timm.optim")
    made: Optimizer = optim.Lookahead(SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1))
    return made


OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], Optimizer]] = {
    "momentum": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "twice": lambda parameters: Twice(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adam": lambda parameters: Adam(parameters, lr=0.01, weight_decay=0.1),
    "adamw": lambda parameters: AdamW(parameters, lr=0.01, weight_decay=0.1, fused=True),
    "lbfgs": lambda parameters: LBFGS(parameters, lr=0.5, max_iter=5, line_search_fn="strong_wolfe"),
    "muon": lambda parameters: Muon([each for each in parameters if each.dim() == 2], lr=0.01),
    "schedule-free, imitated": lambda parameters: ScheduleFree(parameters, lr=0.05),
    "schedule-free": schedule_free,
    "lookahead": lookahead,
}


def problem() -> tuple[nn.Module, dict[str, Tensor], Tensor, Tensor]:
    """A network with zeros to hold, and what it shall learn."""
    draws = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) / 4)
    masks = {
        name: torch.rand(module.get_parameter(name).shape, generator=draws) < 0.3 for name in ("0.weight", "2.weight")
    }
    return module, masks, torch.randn(32, 8, generator=draws), torch.randn(32, 4, generator=draws)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_holding_keeps_zeros_whatever_optimizer_moves_the_weights(name: str) -> None:
    module, masks, inputs, targets = problem()
    holding = Holding(module, masks)
    holding.hold()
    optimizer, nonzeros, losses = OPTIMIZERS[name](module.parameters()), set[int](), []

    def closure() -> Tensor:
        module.zero_grad()
        nonzeros.add(sum(int((module.get_parameter(each) != 0).sum()) for each in masks))
        loss = (module(inputs) - targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        return loss

    with holding.during():
        for _ in range(6):
            if isinstance(optimizer, LBFGS):
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                closure()
                optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    nonzeros.add(sum(int((module.get_parameter(each) != 0).sum()) for each in masks))
    assert nonzeros == {sum(int(mask.sum()) for mask in masks.values())}
    assert losses[-1] < losses[0]
    assert holding.fault is None


def test_holding_of_a_step_that_no_optimizer_of_torch_makes_needs_its_hand() -> None:
    module, masks, _, _ = problem()
    holding = Holding(module, masks)
    holding.hold()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    dropped = int((~masks["0.weight"]).sum())
    assert holding.fault == f"{dropped} pruned weights of 0.weight are not zero"
    holding.hold()
    assert holding.fault is None


def test_holding_finds_weights_that_were_exchanged() -> None:
    module, masks, _, _ = problem()
    holding = Holding(module, masks)
    holding.hold()
    dense, _, _, _ = problem()
    module.load_state_dict(copy.deepcopy(dense.state_dict()), assign=True)
    assert holding.fault is not None


def test_holding_leaves_no_hooks_behind() -> None:
    module, masks, inputs, targets = problem()
    with Holding(module, masks).during():
        pass
    optimizer = SGD(module.parameters(), lr=0.1)
    (module(inputs) - targets).square().mean().backward()
    optimizer.step()
    assert (module.get_parameter("0.weight")[~masks["0.weight"]] != 0).any()


def test_holding_of_a_dense_network_is_nothing() -> None:
    module, _, _, _ = problem()
    holding = Holding(module, {})
    with holding.during():
        assert holding.fault is None
