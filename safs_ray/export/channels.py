"""Channels and neurons that reach no output: their weights dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from safs_ray.network import Network
from safs_ray.sparse.graph import Affine, Normalisation, Step
from safs_ray.sparse.removal import Channels, kept_weights, needed_channels


def drop_dead(network: Network, steps: Sequence[Step]) -> Network:
    """The network with zeros for all that belongs to channels from which no path of kept weights leads to the output.

    It computes the same. Its masks keep only weights on such a path.
    """
    state, masks = dict(network.state), dict(network.masks)
    for owner, outputs in _needed(steps, needed_channels(steps, kept_weights(steps, network))).items():
        if f"{owner}.weight" in masks:
            masks[f"{owner}.weight"] = masks[f"{owner}.weight"] & _along(outputs, masks[f"{owner}.weight"])
        for name in ("weight", "bias", "running_mean", "running_var"):
            if (tensor := state.get(f"{owner}.{name}")) is not None:
                state[f"{owner}.{name}"] = torch.where(_along(outputs, tensor), tensor, 0)
    return replace(network, state=state).masked(masks)


def _needed(steps: Sequence[Step], live: Sequence[Channels]) -> Mapping[str, Channels]:
    """The outputs of every layer that are needed wherever it is applied."""
    needed: dict[str, Channels] = {}
    for step, own in zip(steps, live, strict=True):
        if isinstance(step.operation, Affine | Normalisation):
            owner = step.operation.owner
            needed[owner] = own | needed.get(owner, False)
    return needed


def _along(live: Channels, tensor: Tensor) -> Tensor:
    """Bools that broadcast along the first dimension of a tensor."""
    return torch.from_numpy(live).reshape(-1, *[1] * (tensor.dim() - 1))
