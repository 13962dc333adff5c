"""Channels and neurons that reach no output: their weights dropped, and then they themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from safs_ray.export.scales import applied_once
from safs_ray.network import Network
from safs_ray.sparse.graph import Affine, Images, Normalisation, Step, UnsupportedError, read
from safs_ray.sparse.removal import Channels, WeightMasks, input_channels, kept_weights, needed_channels


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


def cut(network: Network) -> tuple[nn.Module, dict[str, tuple[int, int]]]:
    """A module in evaluation mode without the channels that reach no output, which computes the same.

    Every layer keeps at least one channel, and those that see the images all that these have.

    Returns:
        The module, normalised images (N, C, H, W) to logits (N, classes), and by name of every layer that lost
        outputs, how many there were and are.

    Raises:
        UnsupportedError: torch.fx does not show how its layers follow upon each other, or one of them cannot be cut.
    """
    module, example = network.build(), network.specification.example()
    steps = read(module, example)
    assert isinstance(module, fx.GraphModule)  # or it could not be read
    live = _left(steps, kept_weights(steps, network))
    _flatten_views(module, example)
    smaller = {}
    for step, own in zip(steps, live, strict=True):
        if isinstance(step.operation, Affine | Normalisation) and not own.all():
            smaller[step.operation.owner] = len(own), int(own.sum())
        match step.operation:
            case Affine(owner=owner, groups=groups):
                source = live[step.inputs[0]]
                if not (own.all() and source.all()):
                    if groups > 1 or not applied_once(steps, owner):
                        kind = "a grouped convolution" if groups > 1 else "applied more than once"
                        raise UnsupportedError(f"{owner} is {kind}")
                    module.set_submodule(owner, _smaller_layer(module.get_submodule(owner), own, source))
            case Normalisation(owner):
                if not own.all():
                    module.set_submodule(owner, _smaller_norm(module.get_submodule(owner), own))
    return module, smaller


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


def _left(steps: Sequence[Step], live: WeightMasks) -> list[Channels]:
    """The channels that are left when torch's own layers compute the rest.

    Those that are needed, all of the images, one where a layer would have no input, and whatever else keeps the two
    sides of a sum, a pooling or a normalisation alike.
    """
    left = [np.full(step.channels, isinstance(step.operation, Images)) for step in steps]
    left[-1][:] = True
    count = -1
    while count != (count := sum(int(own.sum()) for own in left)):  # until a pass adds none
        for step, own in zip(reversed(steps), reversed(left), strict=True):
            for source in (left[index] for index in step.inputs):
                if isinstance(step.operation, Affine):
                    mask = live[step.operation.owner]
                    read = input_channels(step.operation, mask.shape)[own][mask[own].any(2)]
                    source[read if len(read) or not own.any() else 0] = True
                else:  # flattened channels lie behind each other
                    flat = own.reshape(len(source), -1)
                    source |= flat.any(1)
                    flat |= source[:, None]
    return left


def _flatten_views(module: fx.GraphModule, example: Tensor) -> None:
    """Flatten by no number of channels: views, all of which are flattenings in a network that was read, have one."""
    ShapeProp(module).propagate(example)
    for node in module.graph.nodes:
        if node.op == "call_method" and node.target in ("view", "reshape"):
            source = node.args[0]
            if source.meta["tensor_meta"].shape == node.meta["tensor_meta"].shape:
                node.replace_all_uses_with(source)
            else:
                node.target, node.args, node.kwargs = "flatten", (source, 1), {}
    module.graph.eliminate_dead_code()
    module.recompile()


def _smaller_layer(layer: nn.Module, outputs: Channels, inputs: Channels) -> nn.Module:
    """A convolution or linear layer between fewer channels."""
    smaller = copy.deepcopy(layer)
    chosen = torch.from_numpy(outputs)
    assert isinstance(smaller, nn.Linear | nn.Conv1d | nn.Conv2d)
    smaller.weight = nn.Parameter(smaller.weight[chosen][:, torch.from_numpy(inputs)])
    if smaller.bias is not None:
        smaller.bias = nn.Parameter(smaller.bias[chosen])
    count = int(inputs.sum()), int(outputs.sum())
    if isinstance(smaller, nn.Linear):
        smaller.in_features, smaller.out_features = count
    else:
        smaller.in_channels, smaller.out_channels = count
    return smaller


def _smaller_norm(norm: nn.Module, channels: Channels) -> nn.Module:
    """A batch normalisation of fewer channels."""
    smaller = copy.deepcopy(norm)
    assert isinstance(smaller, nn.BatchNorm1d | nn.BatchNorm2d)
    chosen = torch.from_numpy(channels)
    smaller.weight, smaller.bias = (nn.Parameter(tensor[chosen]) for tensor in (smaller.weight, smaller.bias))
    smaller.running_mean, smaller.running_var = (
        tensor[chosen] for tensor in (smaller.running_mean, smaller.running_var) if tensor is not None
    )
    smaller.num_features = int(channels.sum())
    return smaller
