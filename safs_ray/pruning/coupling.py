"""Coupling: which channels of a network can only go together.

A channel goes physically when the layers before it stop computing it and the layers behind it stop reading it. Two
layers whose values are added, multiplied or normalised together must lose the same channels (Liu et al. 2021, Fang et
al. 2023). So every channel gets a number, numbers flow through the graph of torch.fx beside the values, and whatever an
operation ties together becomes one number. An operation that is not known here ties what it reads to number 0, which
always stays.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.activations import ScaledActivation
from safs_ray.activations.kinds import FUNCTIONS, MODULES, is_plain
from safs_ray.pruning.masks import LAYERS


@dataclass(frozen=True)
class Coupling:
    """The channels of a network, in sets that go together; set 0 always stays.

    Attributes:
        outputs: by name of the weight of a convolution or linear layer, the set of each output channel (outputs,).
        inputs: likewise of each input channel (inputs / groups,): of a grouped convolution those of one group, which
            are tied to those of every other group.
        normalisations: by name of a batch normalisation, the set of each of its channels.
        places: by name of the weight, how many places of its output it is used at, for one image.
        fixed: multiply-adds for one image of the layers that always stay whole.
        views: by name of every node of the graph that names the sizes of a view, whether it flattens or does nothing.
        sets: how many there are.

    Examples:
        >>> module = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> coupling = coupling_of(module, torch.zeros(1, 2))
        >>> coupling.outputs["0.weight"], coupling.inputs["2.weight"], coupling.outputs["2.weight"]
        (tensor([1, 2, 3]), tensor([1, 2, 3]), tensor([0]))
    """

    outputs: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    normalisations: Mapping[str, Tensor]
    places: Mapping[str, float]
    sets: int
    fixed: int = 0
    views: Mapping[str, bool] = field(default_factory=dict)

    @cached_property
    def layers(self) -> tuple[Tensor, ...]:
        """The sets (n,) that compete with each other: those that the same layers compute, without set 0."""
        owners: dict[int, list[str]] = {}
        for name, numbers in self.outputs.items():
            for number in set(numbers.tolist()):
                owners.setdefault(number, []).append(name)
        layers: dict[tuple[str, ...], list[int]] = {}
        for number in sorted(owners.keys() - {0}):
            layers.setdefault(tuple(owners[number]), []).append(number)
        return tuple(torch.tensor(numbers) for numbers in layers.values())

    def masks(self, kept: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks of weights between the channels of the sets that are kept; weights that are not here stay whole.

        Args:
            kept: bool (sets,).
            like: tensors shaped as the weights, by name.
        """
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in like.items()}
        for name in self.outputs.keys() & like.keys():
            kept = kept.to(like[name].device)
            between = kept[self.outputs[name]][:, None] & kept[self.inputs[name]]
            masks[name] &= between.view(*between.shape, *[1] * (like[name].dim() - 2))
        return masks

    def multiply_adds(self, masks: Mapping[str, Tensor]) -> int:
        """Multiplications by the weights of convolutions and linear layers that masks keep, for one image."""
        return self.fixed + round(sum(int(masks[name].sum()) * places for name, places in self.places.items()))

    def multiply_adds_between(self, kept: Tensor, like: Mapping[str, Tensor]) -> int:
        """The same of :meth:`masks`, without making them."""
        total = 0.0
        for name, places in self.places.items():
            computed, read = int(kept[self.outputs[name]].sum()), int(kept[self.inputs[name]].sum())
            total += computed * read * like[name][0, 0].numel() * places
        return self.fixed + round(total)


class Value(NamedTuple):
    """What is known of a tensor: the set of each of its channels (channels,), and which dimension they are."""

    sets: Tensor
    dimension: int


def coupling_of(module: fx.GraphModule, example: Tensor) -> Coupling:
    """What goes together in a network.

    Args:
        module: as torch.fx has traced it; it is left in the mode that it has.
        example: a batch that it accepts.
    """
    return _Reader(module, example).coupling()


class _Reader:
    """Follows the numbers of channels through a graph; a number's root stands for all that are tied to it."""

    def __init__(self, module: fx.GraphModule, example: Tensor) -> None:
        self._module = module
        self._sizes, self._batch = _sizes(module, example), len(example)
        self._shapes = {
            node: tuple(size[1:]) if size[0] == len(example) else () for node, size in self._sizes.items() if size
        }
        self._roots = [0]
        self._values: dict[fx.Node, Value] = {}
        self._outputs: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        self._normalisations: dict[str, Tensor] = {}
        self._places: dict[str, float] = {}
        self._fixed = 0
        self._views = {node.name: self._flattens(node) for node in module.graph.nodes if self._is_plain_view(node)}
        shared = shared_layers(module)
        for node in module.graph.nodes:
            if node in self._shapes:
                known = None if node.op == "call_module" and node.target in shared else self._known(node)
                self._values[node] = known or self._unknown(node)
            elif not self._says_nothing_of_channels(node):
                self._unknown(node)

    def coupling(self) -> Coupling:
        """The sets under numbers without gaps, in the order of their first channels."""
        roots = torch.tensor([self._root(number) for number in range(len(self._roots))])
        dense = torch.unique(roots, return_inverse=True)[1]  # ascending: 0 stays 0

        def sets(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: dense[each] for name, each in numbers.items()}

        return Coupling(
            outputs=sets(self._outputs),
            inputs=sets(self._inputs),
            normalisations=sets(self._normalisations),
            places=self._places,
            sets=int(dense.max()) + 1,
            fixed=self._fixed,
            views=self._views,
        )

    def _known(self, node: fx.Node) -> Value | None:
        """The channels of what a node gives; None where it is not known what it does with them."""
        tensors = [each for each in node.all_input_nodes if each in self._shapes]
        if not tensors or any(each.op == "get_attr" or not self._shapes[each] for each in tensors):
            return None  # its own parameters, or what is no longer there for every image
        if node.op == "call_module" and len(tensors) == 1:
            child = self._module.get_submodule(str(node.target))
            plain = isinstance(child, ScaledActivation) or is_plain(child, type(child))
            return self._of_module(child, str(node.target), node, tensors[0]) if plain else None
        if node.op not in ("call_function", "call_method"):
            return None
        if node.target in (torch.cat, torch.concat):
            return self._concatenated(node, tensors)
        if node.target in ELEMENTWISE:
            return self._tied(tensors)
        return self._of_one(node, node.target, tensors[0]) if len(tensors) == 1 else None

    def _of_module(self, child: nn.Module, path: str, node: fx.Node, source: fx.Node) -> Value | None:
        value, kind = self._values[source], type(child)
        if kind in LAYERS:
            return self._layer(child, path, node, value)
        if kind in NORMALISATIONS and value.dimension == 1:
            self._normalisations[path] = value.sets
            return value
        if isinstance(child, ScaledActivation):
            return value if child.operator.channels is None else None
        return self._of_one(node, kind, source)

    def _of_one(self, node: fx.Node, kind: Any, source: fx.Node) -> Value | None:
        """What works on every channel alone and leaves it where it is, or flattens."""
        value, taken, given = self._values[source], self._shapes[source], self._shapes[node]
        if kind in POINTWISE or self._views.get(node.name) is False:
            return value
        if value.dimension != 1:
            return None
        if kind in FLATTENING or node.name in self._views:
            flat = given == (_numel(taken),)
            return Value(value.sets.repeat_interleave(_numel(taken) // taken[0]), 1) if flat else None
        if len(taken) == SPATIAL.get(kind) or (kind in MEANS and _keeps_channels(node, len(taken) + 1)):
            return value  # with fewer dimensions torch takes the images of a batch for channels
        return None

    def _layer(self, child: Any, path: str, node: fx.Node, value: Value) -> Value:
        """A convolution or linear layer: new channels, computed from all those before."""
        dimension = len(self._shapes[node]) if isinstance(child, nn.Linear) else 1
        groups = getattr(child, "groups", 1)
        taken, given = value.sets, self._fresh(len(child.weight))
        if value.dimension != dimension:
            self._hold(value)
            taken = staying(child.weight.shape[1] * groups)
        name = f"{path}.weight"
        self._places[name] = self._places_of(node, len(given))
        self._outputs[name] = given
        if groups == 1:
            self._inputs[name] = taken
        elif groups == len(taken):  # depthwise: a channel goes with those that are computed from it alone
            self._tie(given, taken.repeat_interleave(len(given) // groups))
            self._inputs[name] = staying(1)
        else:  # every group loses the same of its channels, so that all stay alike
            for numbers in (given.view(groups, -1), taken.view(groups, -1)):
                for other in numbers[1:]:
                    self._tie(numbers[0], other)
            self._inputs[name] = taken[: len(taken) // groups]
        return Value(given, dimension)

    def _tied(self, tensors: Sequence[fx.Node]) -> Value | None:
        """Values that are added or multiplied place by place; what is 1 wide along the channels goes to all of them."""
        values = [self._values[each] for each in tensors]
        first = max(values, key=lambda value: len(value.sets))
        if len({(len(self._shapes[each]), value.dimension) for each, value in zip(tensors, values, strict=True)}) > 1:
            return None
        for other in values:
            if len(other.sets) == len(first.sets):
                self._tie(first.sets, other.sets)
            else:
                self._hold(other)
        return first

    def _concatenated(self, node: fx.Node, tensors: Sequence[fx.Node]) -> Value | None:
        if any(self._values[each].dimension != 1 for each in tensors):
            return None
        sets = torch.cat([self._values[each].sets for each in tensors])
        return Value(sets, 1) if self._shapes[node][:1] == (len(sets),) else None  # or it is along another dimension

    def _unknown(self, node: fx.Node) -> Value:
        """Hold all that a node reads; what it gives always stays."""
        for each in node.all_input_nodes:
            if each in self._values:
                self._hold(self._values[each])
        if node.op == "call_module":
            self._fixed += self._multiply_adds(node)
        shape = self._shapes.get(node, ())
        return Value(staying(shape[0] if shape else 0), 1)

    def _multiply_adds(self, node: fx.Node) -> int:
        """Of a convolution or linear layer, or of the matrices of attention; 0 of other modules."""
        layer = self._module.get_submodule(str(node.target))
        if isinstance(layer, nn.MultiheadAttention):
            taken = node.args[:3] if len(node.args) >= 3 else (node.all_input_nodes[0],) * 3
            widths = layer.embed_dim, layer.kdim, layer.vdim
            places = [self._places_of(each, width) for each, width in zip(taken, widths, strict=True)]
            read = sum(width * each for width, each in zip(widths, places, strict=True))
            return int(layer.embed_dim * (read + layer.embed_dim * places[0]))
        if not isinstance(layer, (*LAYERS, *TRANSPOSED)):
            return 0
        seen = node.all_input_nodes[0] if isinstance(layer, TRANSPOSED) else node  # each place there meets all weights
        return round(layer.weight.numel() * self._places_of(seen, layer.weight.shape[0]))

    def _places_of(self, node: Any, channels: int) -> float:
        """At how many places for one input a value has so many channels."""
        return _numel(self._sizes.get(node, (0,))) / channels / self._batch

    def _is_plain_view(self, node: fx.Node) -> bool:
        """Whether a node gives sizes for a view, and is a flattening or leaves its input as it is."""
        if node.target not in ("view", "reshape", torch.reshape) or node.kwargs:
            return False
        source, *sizes = node.args
        sizes = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
        if not isinstance(source, fx.Node) or not all(isinstance(size, int | fx.Node) for size in sizes):
            return False  # a view of another type names that alone
        taken, given = self._shapes.get(source, ()), self._shapes.get(node)
        return bool(taken) and given in (taken, (_numel(taken),))

    def _flattens(self, node: fx.Node) -> bool:
        return self._shapes[node] != self._shapes[node.all_input_nodes[0]]

    def _says_nothing_of_channels(self, node: fx.Node) -> bool:
        """Whether a node that gives no tensor, such as a size, is the batch's or only serves a plain view."""
        if node.target is getattr and node.args[1] in ("device", "dtype", "ndim"):
            return True
        if node.target not in ("size", getattr, operator.getitem):
            return False
        if node.args[1:] == (0,):
            return True
        return all(
            user.name in self._views or (user.target is operator.getitem and self._says_nothing_of_channels(user))
            for user in node.users
        )

    def _hold(self, value: Value) -> None:
        self._tie(torch.zeros_like(value.sets), value.sets)

    def _fresh(self, count: int) -> Tensor:
        begin = len(self._roots)
        self._roots += range(begin, begin + count)
        return torch.arange(begin, begin + count)

    def _tie(self, one: Tensor, other: Tensor) -> None:
        for pair in zip(one.tolist(), other.tolist(), strict=True):
            low, high = sorted(self._root(number) for number in pair)
            self._roots[high] = low

    def _root(self, number: int) -> int:
        while (above := self._roots[number]) != number:
            self._roots[number] = self._roots[above]
            number = above
        return number


ELEMENTWISE: set[Any] = {
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, operator.truediv,
    torch.add, torch.sub, torch.mul, torch.div, "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_",
    torch.maximum, torch.minimum,
}  # fmt: skip
"""Functions and methods of one or two tensors, place by place."""

POINTWISE: set[Any] = {
    nn.Identity, nn.Dropout, nn.Sigmoid, nn.Hardsigmoid, F.dropout, F.hardsigmoid, torch.clamp, "clamp", "clamp_",
    "contiguous", *MODULES, *FUNCTIONS, *(f"{name}_" for name in FUNCTIONS),
    *(getattr(room, name) for room in (F, torch) for name in FUNCTIONS if hasattr(room, name)),
} - {nn.PReLU}  # fmt: skip
"""Modules, functions and methods of one tensor, place by place; PReLU may have a slope for each channel."""

FLATTENING: set[Any] = {nn.Flatten, torch.flatten, "flatten"}

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

MEANS: set[Any] = {torch.mean, "mean"}

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

SPATIAL: dict[Any, int] = {
    nn.MaxPool1d: 2, nn.AvgPool1d: 2, nn.AdaptiveAvgPool1d: 2, nn.AdaptiveMaxPool1d: 2, nn.Dropout1d: 2,
    nn.MaxPool2d: 3, nn.AvgPool2d: 3, nn.AdaptiveAvgPool2d: 3, nn.AdaptiveMaxPool2d: 3, nn.Dropout2d: 3,
    nn.Upsample: 3, nn.ZeroPad2d: 3,
    F.max_pool1d: 2, torch.max_pool1d: 2, F.avg_pool1d: 2, F.adaptive_avg_pool1d: 2,
    F.max_pool2d: 3, torch.max_pool2d: 3, F.avg_pool2d: 3, F.adaptive_avg_pool2d: 3, F.adaptive_max_pool2d: 3,
    F.interpolate: 3,
}  # fmt: skip
"""Modules and functions that work on the places of every channel alone, and how many dimensions an image has there."""


def _keeps_channels(node: fx.Node, rank: int) -> bool:
    """Whether a mean is taken over other dimensions than the first two of so many."""
    over = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dimensions = over if isinstance(over, tuple | list) else (over,)
    return all(isinstance(each, int) and each % rank > 1 for each in dimensions)


def staying(count: int) -> Tensor:
    """Set 0 for so many channels (count,)."""
    return torch.zeros(count, dtype=torch.int64)


def _sizes(module: fx.GraphModule, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every node's value that is a tensor."""
    sizes: dict[fx.Node, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                sizes[n] = tuple(value.shape)
            return value

    was_training = module.training
    with torch.no_grad():
        Recorder(module.eval()).run(example)
    module.train(was_training)
    return sizes


def shared_layers(module: fx.GraphModule) -> set[str]:
    """The names of layers, normalisations and attentions that are applied twice, or have a tensor that others read."""
    called = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
    read = [
        reduce(getattr, str(node.target).split("."), module) for node in module.graph.nodes if node.op == "get_attr"
    ]
    names: dict[int, int] = {}
    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for _, tensor in tensors:
            names[id(tensor)] = names.get(id(tensor), 0) + 1
    shared = {number for number, count in names.items() if count > 1} | {id(tensor) for tensor in read}
    return {
        name
        for name in called
        for layer in (module.get_submodule(name),)
        if isinstance(layer, (*LAYERS, *NORMALISATIONS, nn.MultiheadAttention))
        and (
            sum(other == name or other.startswith(f"{name}.") for other in called) > 1
            or shared & {id(each) for each in (*layer.parameters(), *layer.buffers())}
        )
    }


def _numel(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
