"""Networks without the channels and heads that are pruned whole: smaller, and executed by torch's own layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from safs_ray.activations.tracing import names_of, unused
from safs_ray.network import Network, load_state, state_of
from safs_ray.pruning.attend import Attend, FewerHeads
from safs_ray.pruning.coupling import Coupling
from safs_ray.pruning.heads import Attention
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.graph import UnsupportedError


class Cut(NamedTuple):
    """A network without the channels and heads that reach no output.

    Attributes:
        module: in evaluation mode, from normalised images (N, C, H, W) to logits (N, classes).
        kept: by name of every tensor that is smaller now, the places along its first dimensions that are left.
        sizes: by name of every layer that lost outputs, how many there were and are.
        share: fraction of the multiply-adds that is left, in (0, 1].
    """

    module: nn.Module
    kept: Mapping[str, tuple[Tensor, ...]]
    sizes: Mapping[str, tuple[int, int]]
    share: float


class CompactCohort(DenseCohort):
    """One network without its pruned channels. Their weights stay as they were, for nothing depends on them.

    Args:
        smaller: what :func:`compact` made of the network.
    """

    def __init__(self, network: Network, smaller: Cut, device: torch.device) -> None:
        super().__init__(network, smaller.module.train(), device)
        self._kept = smaller.kept

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        """None: what is left is dense."""
        return {}

    def state(self, number: int) -> dict[str, Tensor]:  # noqa: ARG002
        small = state_of(self._module)
        return {name: self._scattered(name, whole, small[name]) for name, whole in self._network.state.items()}

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        load_state(self._module, {name: self._gathered(name, tensor) for name, tensor in state.items()})

    def _gathered(self, name: str, whole: Tensor) -> Tensor:
        return whole[_block(self._kept[name])] if name in self._kept else whole

    def _scattered(self, name: str, whole: Tensor, small: Tensor) -> Tensor:
        if name not in self._kept:
            return small
        whole = whole.clone()
        whole[_block(self._kept[name])] = small
        return whole


def without_remains(network: Network) -> Network:
    """The network with zeros for the biases and scales of channels that are gone, which change nothing any more.

    So an optimizer that goes by the norm of a whole tensor, as Fromage does, sees the same with them and without.
    """
    coupling, state = network.coupling, dict(network.state)
    needed = _needed_sets(network, coupling)
    stays = {_bias_of(name): needed[own] for name, own in coupling.outputs.items()}
    for owner, own in coupling.normalisations.items():
        stays |= {f"{owner}.weight": needed[own], f"{owner}.bias": needed[own]}
    for attention in network.heads.attentions:
        kept = network.heads.kept(attention, network.masks)
        stays |= {_bias_of(name): kept[heads] for name, heads in attention.rows.items()}
    for name in stays.keys() & state.keys():
        state[name] = torch.where(stays[name], state[name], 0)
    return replace(network, state=state)


def _bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def compact(network: Network) -> Cut | None:
    """The network without the channels that are pruned whole; None where nothing goes, or other zeros are left."""
    if not network.masks or not all(_is_block(mask) for mask in network.masks.values()):
        return None
    try:
        smaller = cut(network)
    except UnsupportedError:
        return None
    left = all(network.masks[name][_block(kept)].all() for name, kept in smaller.kept.items() if name in network.masks)
    whole = all(mask.all() for name, mask in network.masks.items() if name not in smaller.kept)
    return smaller if smaller.kept and left and whole else None


def _is_block(mask: Tensor) -> bool:
    """Whether a mask (outputs, inputs, …) keeps all between some of the outputs and some of the inputs."""
    between = mask.flatten(2) if mask.dim() > 2 else mask[:, :, None]
    rows, columns = between.flatten(1).any(1), between.movedim(1, 0).flatten(1).any(1)
    return bool(between[rows][:, columns].all())


def _block(kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Places along the first dimensions as an index: those of each go with all those of the others."""
    return kept if len(kept) == 1 else (kept[0][:, None], kept[1])  # type: ignore[return-value]


def cut(network: Network) -> Cut:
    """Leave out the channels and heads that reach no output; what is left computes the same.

    Every layer keeps at least one channel and every attention one head, and what is coupled goes together.

    Raises:
        UnsupportedError: torch.fx does not show how its layers follow upon each other.
    """
    module = network.build()
    if not isinstance(module, fx.GraphModule):
        raise UnsupportedError("torch.fx has no graph of it")
    coupling, heads = network.coupling, network.heads
    needed = _needed_sets(network, coupling)
    fewer = [(each, own) for each in heads.attentions if not (own := heads.kept(each, network.masks)).all()]
    for attention, _ in fewer:
        if attention.between:
            _attend_anew(module, attention)
    _without_sizes(module, coupling.views)
    kept, sizes = dict[str, tuple[Tensor, ...]](), {}
    for name, outputs in coupling.outputs.items():
        own, read, owner = needed[outputs], needed[coupling.inputs[name]], _owner(name)
        if own.all() and read.all():
            continue
        layer = module.get_submodule(owner)
        module.set_submodule(owner, _smaller_layer(layer, own, read))
        kept[name] = own.nonzero()[:, 0], read.nonzero()[:, 0]
        if not own.all():
            sizes[owner] = len(own), int(own.sum())
            kept |= {f"{owner}.bias": kept[name][:1]} if layer.bias is not None else {}
    for owner, sets in coupling.normalisations.items():
        if not (own := needed[sets]).all():
            norm = module.get_submodule(owner)
            module.set_submodule(owner, _smaller_norm(norm, own))
            own_names = (name for name, tensor in norm.state_dict().items() if tensor.dim())
            kept |= {f"{owner}.{name}": (own.nonzero()[:, 0],) for name in own_names}
    weights = network.prunable()
    left, whole = (coupling.multiply_adds_between(each, weights) for each in (needed, needed | True))
    for attention, own in fewer:
        lost, smaller = _cut_heads(module, attention, own, kept)
        left -= lost
        kept |= smaller
        for name, rows in attention.rows.items():
            sizes[_owner(name)] = len(rows), len(smaller[name][0])
    return Cut(module.eval(), kept, sizes, left / whole if whole else 1.0)


def _needed_sets(network: Network, coupling: Coupling) -> Tensor:
    """Whether any channel of a set is needed for the outputs (sets,); one stays of a layer that nothing reads."""
    reads = {}
    for name in coupling.outputs:
        weight = network.masks.get(name, network.state[name] != 0)
        reads[name] = weight.flatten(2).any(2) if weight.dim() > 2 else weight
    needed = torch.zeros(coupling.sets, dtype=torch.bool)
    needed[0] = True
    _follow_back(needed, reads, coupling)
    computed = torch.zeros_like(needed)
    for name, outputs in coupling.outputs.items():
        computed[outputs[reads[name].any(1)]] = True
    for layer in coupling.layers:
        if not needed[layer].any():
            needed[layer[computed[layer].int().argmax()]] = True
            _follow_back(needed, reads, coupling)
    return needed


def _follow_back(needed: Tensor, reads: Mapping[str, Tensor], coupling: Coupling) -> None:
    """Add the sets that what is needed reads, until there are none more."""
    count = 0
    while count != (count := int(needed.sum())):
        for name, outputs in coupling.outputs.items():
            needed[coupling.inputs[name][reads[name][needed[outputs]].any(0)]] = True


def _cut_heads(
    module: fx.GraphModule, attention: Attention, heads: Tensor, kept: Mapping[str, tuple[Tensor, ...]]
) -> tuple[int, dict[str, tuple[Tensor, ...]]]:
    """Leave heads out, in place.

    Args:
        heads: whether each stays (heads,).
        kept: what is left of tensors that are smaller already.

    Returns:
        How many multiply-adds that saves, and what is left of the tensors that are smaller now.
    """
    columns = heads[attention.columns]
    lost, smaller = 0.0, dict[str, tuple[Tensor, ...]]()
    for name, own in attention.rows.items():
        rows = heads[own]
        inputs = _places(kept, name, 1, module.get_parameter(name))
        lost += int((~rows).sum()) * len(inputs) * attention.places[name]
        smaller |= {name: (rows.nonzero()[:, 0], inputs), _bias_of(name): (rows.nonzero()[:, 0],)}
    name = attention.projection
    outputs = _places(kept, name, 0, module.get_parameter(name))
    lost += int((~columns).sum()) * len(outputs) * attention.places[name]
    smaller[name] = outputs, columns.nonzero()[:, 0]
    there = {name for name, _ in module.named_parameters()}
    if not attention.between:
        owner = _owner(name).removesuffix(".out_proj")
        whole = module.get_submodule(owner)
        assert isinstance(whole, nn.MultiheadAttention)
        module.set_submodule(owner, FewerHeads(whole, heads))
    else:
        for name, own in attention.rows.items():
            layer = module.get_submodule(_owner(name))
            module.set_submodule(_owner(name), _smaller_layer(layer, heads[own], torch.ones(len(smaller[name][1])) > 0))
        owner = _owner(attention.projection)
        layer = module.get_submodule(owner)
        module.set_submodule(owner, _smaller_layer(layer, torch.ones(len(outputs)) > 0, columns))
    return round(lost), {name: places for name, places in smaller.items() if name in there}


def _places(kept: Mapping[str, tuple[Tensor, ...]], name: str, dimension: int, weight: Tensor) -> Tensor:
    """What is left of a weight along one of its first two dimensions."""
    return kept[name][dimension] if name in kept else torch.arange(weight.shape[dimension])


def _owner(weight: str) -> str:
    """The layer that a weight is of."""
    return weight.rpartition(".")[0]


def _attend_anew(module: fx.GraphModule, attention: Attention) -> None:
    """Let a graph compute what an attention does without naming how many heads there are."""
    nodes = {node.name: node for node in module.graph.nodes}
    attended, computed = nodes[attention.attended], tuple(nodes[name] for name in attention.computed)
    name = unused(f"{_owner(attention.projection)}_attend", names_of(module))
    module.add_submodule(name, Attend(attention.width, attention.order))
    with module.graph.inserting_after(attended):
        attended.replace_all_uses_with(module.graph.call_module(name, computed))
    for old in reversed(attention.between):
        module.graph.erase_node(nodes[old])
    module.recompile()


def _without_sizes(module: fx.GraphModule, views: Mapping[str, bool]) -> None:
    """Let no view name a number of channels: those that flatten do so, and those that do nothing go."""
    for node in list(module.graph.nodes):
        if node.name in views:
            source = node.args[0]
            if views[node.name]:
                node.op, node.target, node.args, node.kwargs = "call_method", "flatten", (source, 1), {}
            else:
                node.replace_all_uses_with(source)
                module.graph.erase_node(node)
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
