"""Turbo-VBI: a rule that learns which weights are needed as a Bayesian would, with kept weights in clusters.

Structured Bayesian compression by turbo variational Bayesian inference (Xia, Tsang & Lau 2023). A hierarchical prior of
three layers: whether a weight is active (its support), its precision, a gamma variable that is large where it is not,
and the weight itself, normal with that precision. The support of a layer is a Markov chain along the rows of its matrix
and one along the columns, so active weights like company.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from safs_ray.pruning.rules import ChangingMasks
from safs_ray.pruning.structure import coupled, select


class TurboVBI(ChangingMasks):
    """Inactive weights decay; at the end those stay whose expected size, probability times |w|, is the largest.

    Every ``interval`` steps the posterior of each weight's support is found from its mean (the weight as it is), its
    variance (one over the data's curvature and its expected precision), and messages along the chains. Three things are
    ours: the curvature is the mean square of the gradients of batches, each of which counts as one observation, in
    place of sampled weights (as in Khan et al. 2018); the prior odds are such that as many are expected to be active as
    shall stay; and where whole channels go the weights that compute one share their support, in place of chains.
    """

    @cached_property
    def _curvature(self) -> dict[str, Tensor]:
        """The running mean of squared gradients."""
        return {name: torch.zeros_like(weight) for name, weight in self._weights.items()}

    @cached_property
    def _active(self) -> dict[str, Tensor]:
        """The probability that each weight is active."""
        return {name: torch.ones_like(weight) for name, weight in self._weights.items()}

    @cached_property
    def _rates(self) -> dict[str, Tensor]:
        """How fast each weight decays, times the learning rate and the strength."""
        return {name: torch.zeros_like(weight) for name, weight in self._weights.items()}

    @torch.no_grad()
    def before_step(self) -> None:
        super().before_step()
        if not self.complete:
            for name, weight in self._weights.items():
                if weight.grad is not None:
                    self._curvature[name].lerp_(weight.grad.square(), 1 - MEMORY)

    @torch.no_grad()
    def changed(self, optimizer: Optimizer) -> Mapping[str, Tensor] | None:
        if self.step % self.section.interval == 0 or self.step in (1, self.end):
            self._infer()
        if self.step == self.end:
            scores = {name: weight.abs() * self._active[name] for name, weight in self._weights.items()}
            return select(scores, self.section.sparsity, self.section, self.masks, self._network)
        strength = self.section.strength * optimizer.param_groups[0]["lr"]
        for name, weight in self._weights.items():
            weight.div_(1 + strength * self._rates[name])
        return None

    def state_dict(self) -> dict[str, Any]:
        kept = {"curvature": self._curvature, "active": self._active, "rates": self._rates}
        return {**super().state_dict(), **{name: _copied(tensors) for name, tensors in kept.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for own, name in ((self._curvature, "curvature"), (self._active, "active"), (self._rates, "rates")):
            for key, tensor in own.items():
                tensor.copy_(state[name][key])

    def _infer(self) -> None:
        """The probabilities that weights are active, and how fast all decay; those that always stay do not."""
        if not self.section.sparsity:
            return
        choice = {name: self._choice(name) for name in self._weights}
        large = self._large(choice)
        for _ in range(ROUNDS):
            odds = {name: self._odds(name, on) for name, on in large.items()}
            for names in self._rivals(choice):
                together = torch.cat([odds[name][choice[name]] for name in names])
                probabilities = torch.sigmoid(together + _offset(together, 1 - self.section.sparsity))
                parts = torch.split(probabilities, [int(choice[name].sum()) for name in names])
                for name, part in zip(names, parts, strict=True):
                    self._active[name][choice[name]] = part
        for name, on in large.items():
            self._rates[name] = torch.where(choice[name], on / self._scale(name, on), 0)

    def _choice(self, name: str) -> Tensor:
        """Which weights may go: all, or where whole channels go those that compute one that may."""
        weight = self._weights[name]
        if not self.section.prunes_channels:
            return torch.ones_like(weight, dtype=torch.bool)
        coupling = coupled(self._network, self.section)
        if name not in coupling.outputs:
            return torch.zeros_like(weight, dtype=torch.bool)
        goes = (coupling.outputs[name] > 0).to(weight.device)
        return goes.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight)

    def _rivals(self, choice: Mapping[str, Tensor]) -> list[list[str]]:
        """The names of the weights that are ranked together."""
        names = [name for name, goes in choice.items() if goes.any()]
        return [[name] for name in names] if self.section.allocation == "layer" or not names else [names]

    def _large(self, choice: Mapping[str, Tensor]) -> dict[str, float]:
        """The prior variance of active weights: the mean square of as many of the largest as shall stay."""
        large: dict[str, float] = {}
        for names in self._rivals(choice):
            squares = torch.cat([self._weights[name][choice[name]].square() for name in names])
            count = max(1, round((1 - self.section.sparsity) * len(squares)))
            large |= dict.fromkeys(names, max(squares.topk(count).values.mean().item(), TINY))
        return large

    def _odds(self, name: str, on: float) -> Tensor:
        """The log odds that each weight is active: what its expected precision says, and its neighbours."""
        own = math.log(1 / RATIO) - (1 - RATIO) * on * SHAPE / self._scale(name, on)
        own = torch.where(self.masks[name], own, -LIMIT).clamp(-LIMIT, LIMIT)
        if self.section.prunes_channels:
            return self._shared(name, own)
        matrix, density = own.flatten(1).double(), 1 - self.section.sparsity
        along_rows = neighbours(matrix, density)
        along_columns = neighbours((matrix + along_rows).T, density).T
        return (own + (along_rows + along_columns).view_as(own)).to(own.dtype)

    def _shared(self, name: str, own: Tensor) -> Tensor:
        """The mean over what computes a channel, or a set of them, at each of its weights."""
        coupling = coupled(self._network, self.section)
        sets = coupling.outputs[name].to(own.device)
        totals, counts = (own.new_zeros(coupling.sets) for _ in range(2))
        totals.index_add_(0, sets, own.flatten(1).mean(1))
        counts.index_add_(0, sets, torch.ones_like(sets, dtype=own.dtype))
        shared = (totals / counts.clamp(min=1))[sets]
        return shared.view(-1, *[1] * (own.dim() - 1)).expand_as(own)

    def _scale(self, name: str, on: float) -> Tensor:
        """The scale of the gamma posterior of each weight's precision, whose mean is SHAPE over it."""
        active, square = self._active[name], self._weights[name].square()
        prior = (active + (1 - active) * RATIO) * on
        precision = SHAPE / (prior + square / 2)
        seen = SHAPE / (on * self.section.strength)  # batches: as many as make the decay strength times the rate
        curvature = self._curvature[name] / (1 - MEMORY**self.step)
        return prior + (square + 1 / (seen * curvature + precision)) / 2


RATIO = 1e-3
"""The prior variance of inactive weights over that of active ones."""

SHAPE = 1.5
"""Of the posterior of a precision: that of its prior, 1, and a half for the weight."""

CLUSTERED = 0.003
"""How much likelier a weight is active beside an active one, on the way from the density to certainty.

More of it makes clusters at the cost of accuracy: see results/README.md, "pruners".
"""

MEMORY = 0.99
"""The part of the curvature's estimate that a step leaves."""

ROUNDS = 3
"""Passes between the posterior of precisions and that of the support."""

LIMIT = 30.0
"""Log odds beyond it are as good as certain."""

TINY = 1e-30
"""The least prior variance, of weights that are all zero."""


def neighbours(odds: Tensor, density: float, clustered: float = CLUSTERED) -> Tensor:
    """What the other places of each row say of a place by a Markov chain along the row (rows, places), as log odds.

    Forward and backward messages (sum-product algorithm) of a chain of active and inactive places whose stationary
    probability of an active one is the density. The prior log odds of the density are left out.

    Args:
        odds: what is known of each place by itself, as log odds.
        clustered: how far beside an active place the probability goes from the density to 1, in [0, 1).

    Examples:
        >>> neighbours(torch.tensor([[20.0, 0.0, 0.0]], dtype=torch.float64), 0.5, clustered=0.5).round(decimals=2)
        tensor([[0.0000, 1.1000, 0.5100]], dtype=torch.float64)
    """
    stays = density + clustered * (1 - density)
    begins = density * (1 - stays) / (1 - density)
    prior = math.log(density / (1 - density))
    said = torch.zeros_like(odds)
    message = odds.new_full((len(odds),), prior)
    for place in range(1, odds.shape[1]):
        active = torch.sigmoid(message + odds[:, place - 1])
        message = torch.logit(active * stays + (1 - active) * begins)
        said[:, place] += message - prior
    back = odds.new_zeros(len(odds))
    for place in range(odds.shape[1] - 2, -1, -1):
        active = torch.sigmoid(back + odds[:, place + 1])
        back = torch.log(active * stays + (1 - active) * (1 - stays)) - torch.log(
            active * begins + (1 - active) * (1 - begins)
        )
        said[:, place] += back
    return said


def _offset(odds: Tensor, density: float) -> float:
    """What is added to log odds so that the mean probability is the density."""
    low, high = -2 * LIMIT - 100.0, 2 * LIMIT + 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if torch.sigmoid(odds + middle).mean().item() > density else (middle, high)
    return (low + high) / 2


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
