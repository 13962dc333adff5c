"""Channels that no image changes, folded into the biases of the layers that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from safs_ray.export.scales import applied_once
from safs_ray.network import Network
from safs_ray.sparse.graph import Activation, Affine, Average, Images, MaxPool, Normalisation, Same, Step, Sum
from safs_ray.sparse.removal import Live, input_channels, kept_weights

Levels = npt.NDArray[np.float64]
"""(channels,) of a step: the value that every pixel of a channel has for every image; NaN where there is none."""


def fold_constants(network: Network, steps: Sequence[Step]) -> Network:
    """The network without the weights that read constant channels; their sums are in the biases.

    A channel is constant when no kept weight leads to it from the images. A layer without a bias, or one that sees
    zeros beyond the border beside the constant, keeps its weights. It computes the same in evaluation mode, but for
    rounding.
    """
    module = network.build().eval()
    kept = kept_weights(steps, network)
    state, masks = dict(network.state), dict(network.masks)
    levels: list[Levels] = []
    for step in steps:
        sources = [levels[index] for index in step.inputs]
        if not isinstance(step.operation, Affine):
            levels.append(_level(step, sources, module))
            continue
        owner = step.operation.owner
        weight, bias = f"{owner}.weight", f"{owner}.bias"
        read = _read(step.operation, network.state[weight].double().numpy(), kept[owner], sources[0])
        shift = torch.from_numpy(read.sums)
        levels.append(np.where(read.varying, np.nan, read.sums + _bias(network, bias)))
        if bias in state and weight in masks and applied_once(steps, owner):
            state[bias] = (state[bias] + shift).float()
            masks[weight] = masks[weight] & ~torch.from_numpy(read.constant).reshape(
                *masks[weight].shape[:2], *[1] * (masks[weight].dim() - 2)
            )
    return replace(network, state=state).masked(masks)


class _Read(NamedTuple):
    """What a layer's outputs read.

    Attributes:
        constant: (outputs, inputs / groups), whether that input is a constant that a bias can hold.
        sums: (outputs,) of those constants times their weights.
        varying: (outputs,) whether an output reads anything else.
    """

    constant: npt.NDArray[np.bool_]
    sums: Levels
    varying: npt.NDArray[np.bool_]


def _read(affine: Affine, weight: Levels, kept: Live, levels: Levels) -> _Read:
    level = levels[input_channels(affine, kept.shape)]
    used = kept.any(2)
    constant = used & ~np.isnan(level) & bool((affine.table >= 0).all())
    sums = (weight.reshape(kept.shape).sum(2) * np.where(constant, level, 0)).sum(1)
    return _Read(constant, sums, np.asarray((used & ~constant).any(1)))


def _bias(network: Network, name: str) -> Levels | float:
    return network.state[name].double().numpy() if name in network.state else 0.0


def _level(step: Step, sources: Sequence[Levels], module: nn.Module) -> Levels:
    """The constants of a step that is no layer of weights."""
    match step.operation:
        case Images():
            return np.full(step.channels, np.nan)
        case MaxPool():
            return sources[0]
        case Average(table, weight):
            whole = np.allclose((table >= 0).sum(1) * weight, 1)
            return sources[0] if whole else np.full_like(sources[0], np.nan)
        case Normalisation(name) | Activation(name):
            return _applied(module.get_submodule(name), sources[0], step)
        case Sum():
            return sources[0] + sources[1]
        case Same():
            return np.repeat(sources[0], step.channels // len(sources[0]))
    raise TypeError(f"{type(step.operation).__name__} has no level")


@torch.inference_mode()
def _applied(child: nn.Module, levels: Levels, step: Step) -> Levels:
    """What a module of one channel at a time makes of constants."""
    known = torch.from_numpy(np.nan_to_num(levels)).float()[None]
    image = known if isinstance(child, nn.BatchNorm1d) else known[:, :, None, None]
    outputs = child(image).double().numpy().reshape(step.channels)
    return np.where(np.isnan(levels), np.nan, outputs)
