"""Scales folded into the layers beside them: alpha into the weights that read it, beta into those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from safs_ray.network import Network
from safs_ray.pruning.masks import unsigned_zeros
from safs_ray.sparse.graph import Activation, Affine, Average, MaxPool, Normalisation, Operation, Same, Step

HOMOGENEOUS = ("relu", "linear")
"""Operators with g(c z) = c g(z) for every c > 0: either scale can take the place of the other."""


def fold_scales(network: Network, steps: Sequence[Step]) -> Network:
    """The network with scales of 1 wherever the layers beside a site can do their work.

    It computes the same in evaluation mode, but for rounding. A layer that is applied twice, or whose value
    something else reads too, is left alone, and so is its scale.
    """
    state = dict(network.state)
    operators = dict(zip(network.sites, network.assignment, strict=True))
    for index, step in enumerate(steps):
        if isinstance(step.operation, Activation):
            _fold(state, steps, index, step.operation.site, operators[step.operation.site])
    return replace(network, state=state)


def _fold(state: dict[str, Tensor], steps: Sequence[Step], index: int, site: str, operator: str) -> None:
    """Fold the scales of one site, in the state."""
    alpha, beta = (state[f"{site}.{name}"].item() for name in ("alpha", "beta"))
    before, after = _before(steps, index, beta > 0), _after(steps, index, alpha > 0)
    if operator in HOMOGENEOUS and beta > 0:
        backwards = before and not after and alpha > 0
        alpha, beta = (1.0, alpha * beta) if backwards else (alpha * beta, 1.0)
    if before:
        for name in (f"{before}.weight", f"{before}.bias"):
            if name in state:
                state[name] = unsigned_zeros(state[name] * beta)
        beta = 1.0
    for owner in after:
        state[f"{owner}.weight"] = unsigned_zeros(state[f"{owner}.weight"] * alpha)
    state[f"{site}.alpha"] = torch.tensor(1.0 if after else alpha)
    state[f"{site}.beta"] = torch.tensor(beta)


def _before(steps: Sequence[Step], index: int, positive: bool) -> str | None:
    """The layer whose value a step takes, which nothing else reads, and which is applied once."""
    source = steps[index].inputs[0]
    operation = steps[source].operation
    if len(_readers(steps, source)) > 1:
        return None
    if isinstance(operation, Affine | Normalisation):
        return operation.owner if applied_once(steps, operation.owner) else None
    return _before(steps, source, positive) if _scales_with_input(operation, positive) else None


def _after(steps: Sequence[Step], index: int, positive: bool) -> list[str]:
    """The layers that read a step's value, each applied once; none where something else reads it too."""
    found: list[str] = []
    for reader in _readers(steps, index):
        operation = steps[reader].operation
        if isinstance(operation, Affine):
            owners = [operation.owner] if applied_once(steps, operation.owner) else []
        else:
            owners = _after(steps, reader, positive) if _scales_with_input(operation, positive) else []
        if not owners:
            return []
        found += owners
    return found


def _readers(steps: Sequence[Step], index: int) -> list[int]:
    return [reader for reader, step in enumerate(steps) if index in step.inputs]


def applied_once(steps: Sequence[Step], owner: str) -> bool:
    """Whether a layer is applied in one place only."""
    return [getattr(step.operation, "owner", None) for step in steps].count(owner) == 1


def _scales_with_input(operation: Operation, positive: bool) -> bool:
    """Whether an operation of c times a value is c times the operation of it, for positive c or for all."""
    return isinstance(operation, Same | Average) or (positive and isinstance(operation, MaxPool))
