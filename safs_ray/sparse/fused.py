"""Networks whose steps form a chain, executed a block of images at a time, alone or several side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from safs_ray.losses import CompiledLoss, Loss, Targets
from safs_ray.network import Network
from safs_ray.operators import lookup
from safs_ray.sparse import blocks
from safs_ray.sparse.blocks import Candidates, Gradients, Room
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.losses import goal_of
from safs_ray.sparse.operators import SCALES, compiled
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.program import program
from safs_ray.sparse.symbols import NotCompilableError

PADDING = 16


class FusedCohort(Cohort):
    """Networks of one mask that differ in their values and operators; each computes the bits that it would alone.

    Args:
        plan: of a chain.

    Attributes:
        values: (networks, values), the weights and biases that the masks left, then zeros.
        scales_of_sites: (networks, sites, PADDING): alpha and beta, then zeros.
        internal: (networks, sites, padded): the parameters of each site's operator, then zeros.

    Raises:
        NotCompilableError: an operator cannot be compiled.
    """

    def __init__(self, plan: Plan, networks: Sequence[Network]) -> None:
        super().__init__()
        first = networks[0]
        dtype = first.dtype
        code = [[compiled(name, dtype == torch.float32) for name in network.assignment] for network in networks]
        self._plan, self._program = plan, program(plan, first)
        self._pixels = first.specification.rows
        self._networks = networks
        self._states = [dict(network.state) for network in networks]
        self._names = [_names(network) for network in networks]
        ahead, both, back = (np.array([[each[way] for each in own] for own in code]) for way in range(3))
        # Only where no gradient of any parameter is wanted.
        both *= np.array([[len(names) == len(SCALES) for names in own] for own in self._names])
        self._code, self._neither = (ahead, both, back), np.zeros_like(both)
        most = max(len(names) for own in self._names for names in own) - len(SCALES)
        count, sites = len(networks), len(first.sites)
        self.values = nn.Parameter(torch.zeros(count, _padded(plan.values), dtype=dtype))
        self.scales_of_sites = nn.Parameter(torch.zeros(count, sites, PADDING, dtype=dtype))
        internal = torch.zeros(count, sites, _padded(max(1, most)), dtype=dtype)
        self.internal = nn.Parameter(internal, requires_grad=most > 0)
        for number, network in enumerate(networks):
            self.load(number, network.state)
        of_lanes = count, sites, len(SCALES) + self.internal.shape[2], LANES
        self._shapes = *(tuple(learned.shape) for learned in self._learned), of_lanes, (count,)
        self._ends = [0, *accumulate(map(math.prod, self._shapes))]
        self._room = Room(*torch.zeros(2, self._program.rows, LANES, dtype=dtype).numpy())

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, _Logits.apply(self, self._pixels(images), *self._learned))

    def learn(
        self,
        images: Tensor,
        targets: Targets,
        loss: Loss,
        precision: torch.dtype = torch.float32,
    ) -> Tensor:
        if not isinstance(loss, CompiledLoss):
            return super().learn(images, targets, loss, precision)
        found, pixels = self._nothing(), self._pixels(images).numpy()
        goal = goal_of(loss, targets, found.values.dtype)
        blocks.learn(self._program, self._candidates(learning=True), pixels, goal, self._room, found)
        for parameter, gradient in zip(self._learned, _learned(found), strict=True):
            parameter.grad = gradient if parameter.requires_grad else None
        return torch.from_numpy(found.losses)

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return [self.values]

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return [self.scales_of_sites, self.internal]

    @property
    def tensors(self) -> Mapping[Tensor, Tensor]:
        parts = [2 * place + numbers for place, numbers in enumerate(self._plan.tensors.values())]
        rest = torch.full((self.values.shape[1] - self._plan.values,), 2 * len(parts))
        numbers: dict[Tensor, Tensor] = {self.values: torch.cat([*parts, rest])}
        for scales in self.scales:
            numbers[scales] = torch.arange(scales[0].numel())  # each is a tensor of its own
        return numbers

    @property
    def _learned(self) -> tuple[Tensor, ...]:
        return self.values, *self.scales

    def freeze_scales(self) -> None:
        self.scales_of_sites.requires_grad_(False)

    def joined(self, networks: Sequence[Network]) -> Cohort | None:
        try:
            return FusedCohort(self._plan, [*self._networks, *networks])
        except NotCompilableError:
            return None

    def state(self, number: int) -> dict[str, Tensor]:
        state = self._states[number]
        values = self._plan.split(self.values[number, : self._plan.values].detach())
        scales = {
            name: value.clone()
            for names, own in zip(self._names[number], self._parameters_of_sites()[number], strict=True)
            for name, value in zip(names, own, strict=False)
        }
        return {**state, **self._plan.scattered(values, state), **scales}

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        self._states[number] = dict(state)
        with torch.no_grad():
            self.values[number, : self._plan.values] = torch.cat(list(self._plan.gathered(state).values()))
            for site, names in enumerate(self._names[number]):
                own = torch.stack([state[name] for name in names])
                self.scales_of_sites[number, site, : len(SCALES)] = own[: len(SCALES)]
                self.internal[number, site, : len(names) - len(SCALES)] = own[len(SCALES) :]

    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Of the first network: by module those of its values, and by name those of the parameters of its sites."""
        values = {} if self.values.grad is None else self._plan.split(self.values.grad[0, : self._plan.values])
        scales: dict[str, Tensor] = {}
        for site, names in enumerate(self._names[0]):
            for parameter, own in ((self.scales_of_sites, names[: len(SCALES)]), (self.internal, names[len(SCALES) :])):
                if parameter.grad is not None:
                    scales |= {name: parameter.grad[0, site, place] for place, name in enumerate(own)}
        return values, scales

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made anew: compiled code has other addresses in another process."""
        networks = [replace(network, state=self.state(number)) for number, network in enumerate(self._networks)]
        return _copied, (self._plan, networks, self.training, self.scales_of_sites.requires_grad)

    def infer(self, images: Tensor) -> Tensor:
        logits = torch.empty(len(self.values), len(images), self._program.classes, dtype=self.values.dtype)
        blocks.infer(self._program, self._candidates(learning=False), images.numpy(), self._room, logits.numpy())
        return logits

    def pull(self, images: Tensor, gradients: Tensor) -> tuple[Tensor, ...]:
        """The gradients of values, scales and internal parameters, given those of the logits (networks, N, classes)."""
        found = self._nothing()
        given = gradients.contiguous().numpy()
        blocks.pull(self._program, self._candidates(learning=True), images.numpy(), given, self._room, found)
        return _learned(found)

    def _candidates(self, learning: bool) -> Candidates:
        ahead, both, back = self._code
        if not learning or self.scales_of_sites.requires_grad:
            both = self._neither
        return Candidates(
            self.values.detach().contiguous().numpy(), self._parameters_of_sites().numpy(), ahead, both, back
        )

    def _parameters_of_sites(self) -> Tensor:
        """(networks, sites, parameters): alpha, beta, and the operator's own, as compiled operators take them."""
        return torch.cat([self.scales_of_sites.detach()[..., : len(SCALES)], self.internal.detach()], -1)

    def _nothing(self) -> Gradients:
        zeros = torch.zeros(self._ends[-1], dtype=self.values.dtype).numpy()  # one array is made sooner than five
        parts = zip(pairwise(self._ends), self._shapes, strict=True)
        return Gradients(*(zeros[first:end].reshape(shape) for (first, end), shape in parts))


def _learned(found: Gradients) -> tuple[Tensor, ...]:
    """The gradients of values, scales and operators' own parameters."""
    return torch.from_numpy(found.values), torch.from_numpy(found.scales), torch.from_numpy(found.internal)


def _copied(plan: Plan, networks: Sequence[Network], training: bool, learns_scales: bool) -> FusedCohort:
    cohort = FusedCohort(plan, networks).train(training)
    cohort.scales_of_sites.requires_grad_(learns_scales)
    return cohort


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cohort: FusedCohort, images: Tensor, *_learned: Tensor) -> Tensor:
        ctx.cohort, ctx.images = cohort, images
        return cohort.infer(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.cohort.pull(ctx.images, gradient)


def _names(network: Network) -> list[list[str]]:
    """By site, the names of its parameters in the network's state, in the order that compiled operators take them."""
    return [
        [f"{site}.{name}" for name in (*SCALES, *(f"internal.{name}" for name in lookup(operator).parameters))]
        for site, operator in zip(network.sites, network.assignment, strict=True)
    ]


def _padded(count: int) -> int:
    """Whole vectors of any processor: so that an optimizer's arithmetic is the same beside others as alone."""
    return -(-count // PADDING) * PADDING
