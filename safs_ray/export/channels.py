"""Channels and neurons that reach no output: their weights dropped, and then they themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from safs_ray.network import Network
from safs_ray.pruning.coupling import Coupling
from safs_ray.sparse.graph import Affine, Normalisation, Step, UnsupportedError
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


class Cut(NamedTuple):
    """A network without the channels that reach no output.

    Attributes:
        module: in evaluation mode, from normalised images (N, C, H, W) to logits (N, classes).
        sizes: by name of every convolution and linear layer that lost outputs, how many there were and are.
        share: fraction of the multiply-adds that is left, in (0, 1].
    """

    module: nn.Module
    sizes: Mapping[str, tuple[int, int]]
    share: float


def cut(network: Network) -> Cut:
    """Leave out the channels that reach no output; what is left computes the same.

    Every layer keeps at least one channel, and what is coupled goes together.

    Raises:
        UnsupportedError: torch.fx does not show how its layers follow upon each other.
    """
    module = network.build()
    if not isinstance(module, fx.GraphModule):
        raise UnsupportedError("torch.fx has no graph of it")
    coupling = network.coupling
    kept = _needed_sets(network, coupling)
    _flatten_views(module, network.specification.example())
    smaller = {}
    for name, outputs in coupling.outputs.items():
        own, source, owner = kept[outputs], kept[coupling.inputs[name]], name.removesuffix(".weight")
        if not (own.all() and source.all()):
            module.set_submodule(owner, _smaller_layer(module.get_submodule(owner), own, source))
        if not own.all():
            smaller[owner] = len(own), int(own.sum())
    for owner, sets in coupling.normalisations.items():
        if not (own := kept[sets]).all():
            module.set_submodule(owner, _smaller_norm(module.get_submodule(owner), own))
    weights = network.prunable()
    left, whole = (coupling.multiply_adds_between(each, weights) for each in (kept, kept | True))
    return Cut(module.eval(), smaller, left / whole if whole else 1.0)


def _needed_sets(network: Network, coupling: Coupling) -> Tensor:
    """Whether any channel of a set is needed for the outputs (sets,); of a layer that nothing reads the first stays."""
    reads = {}
    for name in coupling.outputs:
        weight = network.masks.get(name, network.state[name] != 0)
        reads[name] = weight.flatten(2).any(2) if weight.dim() > 2 else weight
    needed = torch.zeros(coupling.sets, dtype=torch.bool)
    needed[0] = True
    _follow_back(needed, reads, coupling)
    for layer in coupling.layers:
        if not needed[layer].any():
            needed[layer[0]] = True
            _follow_back(needed, reads, coupling)
    return needed


def _follow_back(needed: Tensor, reads: Mapping[str, Tensor], coupling: Coupling) -> None:
    """Add the sets that what is needed reads, until there are none more."""
    count = 0
    while count != (count := int(needed.sum())):
        for name, outputs in coupling.outputs.items():
            needed[coupling.inputs[name][reads[name][needed[outputs]].any(0)]] = True


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


def _flatten_views(module: fx.GraphModule, example: Tensor) -> None:
    """Flatten by no number of channels: views, all of which are flattenings in a network that was read, have one."""
    ShapeProp(module.eval()).propagate(example)
    for node in module.graph.nodes:
        if node.op == "call_method" and node.target in ("view", "reshape"):
            source = node.args[0]
            taken, given = (each.meta["tensor_meta"].shape for each in (source, node))
            if taken == given:
                node.replace_all_uses_with(source)
            elif given == (taken[0], taken[1:].numel()):
                node.target, node.args, node.kwargs = "flatten", (source, 1), {}
    module.graph.eliminate_dead_code()
    module.recompile()


def _smaller_layer(layer: nn.Module, outputs: Tensor, inputs: Tensor) -> nn.Module:
    """A convolution or linear layer between fewer channels.

    Args:
        outputs, inputs: whether it keeps a channel; of a grouped convolution the inputs are those of each group.
    """
    smaller = copy.deepcopy(layer)
    assert isinstance(smaller, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    before = len(outputs)
    smaller.weight = nn.Parameter(smaller.weight[outputs][:, inputs])
    if smaller.bias is not None:
        smaller.bias = nn.Parameter(smaller.bias[outputs])
    read, computed = int(inputs.sum()), int(outputs.sum())
    if isinstance(smaller, nn.Linear):
        smaller.in_features, smaller.out_features = read, computed
    else:
        if smaller.groups > 1 and len(inputs) == 1:  # depthwise: whole groups go
            smaller.groups = smaller.groups * computed // before
        smaller.in_channels, smaller.out_channels = read * smaller.groups, computed
    return smaller


def _smaller_norm(norm: nn.Module, channels: Tensor) -> nn.Module:
    """A batch normalisation of fewer channels."""
    smaller = copy.deepcopy(norm)
    assert isinstance(smaller, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    if smaller.affine:
        smaller.weight, smaller.bias = (nn.Parameter(tensor[channels]) for tensor in (smaller.weight, smaller.bias))
    if smaller.running_mean is not None and smaller.running_var is not None:
        smaller.running_mean, smaller.running_var = smaller.running_mean[channels], smaller.running_var[channels]
    smaller.num_features = int(channels.sum())
    return smaller
