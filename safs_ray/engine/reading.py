"""The steps of a network that is only used: those of training, and what has no gradient here.

What none of them does is left to torch: its node runs as it stands, between the others.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from safs_ray.activations import ScaledActivation
from safs_ray.activations.kinds import FUNCTIONS, has_hooks, is_plain, operator_of, operator_of_call
from safs_ray.activations.scaled import ChannelGroups
from safs_ray.engine.weighing import is_compilable
from safs_ray.operators import Operator, lookup
from safs_ray.sparse import graph
from safs_ray.sparse.graph import Activation, Average, Operation, Other, Shapes, Step, UnsupportedError
from safs_ray.sparse.windows import Table


@dataclass(frozen=True)
class PlainActivation(Other):
    """An activation that is no site; ``parameters`` are the names of its own in the network's state."""

    operator: Operator
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Groups(Other):
    """Activations of contiguous blocks of channels, each a site; the larger blocks come first."""

    sites: tuple[str, ...]


@dataclass(frozen=True)
class Concat(Other):
    """The channels of several values behind each other."""


@dataclass(frozen=True)
class Product(Other):
    """Planes times a number for each channel; ``gate`` is the number's place among the inputs."""

    gate: int


@dataclass(frozen=True)
class Foreign(Other):
    """What torch does: ``run`` maps tensors (N, C, H, W) or (N, C) to one.

    Attributes:
        name: of the node.
        reason: why no step does it.
        shapes: of what it takes, and of its value, for one image.
    """

    name: str
    reason: str
    run: Callable[[Sequence[Tensor]], Tensor]
    shapes: tuple[tuple[int, ...], ...]


HARDSIGMOID = Operator("hardsigmoid", F.hardsigmoid, "min(max(0, z + 3), 6) / 6", "Howard et al. 2019")


def read(module: nn.Module, example: Tensor) -> tuple[Step, ...]:
    """The steps of a network, the last of which gives the logits.

    Args:
        module: what :meth:`Network.build` made; it is left in evaluation mode.
        example: a batch (N, C, H, W) that it accepts.

    Raises:
        UnsupportedError: it cannot be traced, or its values are no planes.
    """
    return graph.steps_of(module, example, _operation_of)


def _operation_of(node: fx.Node, owner: fx.GraphModule, shapes: Shapes) -> Operation:
    found, reason = None, f"{node.name} applies what is not compiled"
    try:
        found = graph.operation_of(node, owner, shapes)
    except UnsupportedError as error:
        found, reason = _beside(node, owner, shapes), str(error)
    applied = [child for child in _applied(node, owner) if child.operator.channels is None]
    compiled = all(is_compilable(child.operator) for child in applied)
    return found if found is not None and compiled else _foreign(node, owner, shapes, reason)


def _applied(node: fx.Node, owner: fx.GraphModule) -> list[ScaledActivation]:
    """The sites of a node."""
    if node.op != "call_module":
        return []
    return [child for child in owner.get_submodule(str(node.target)).modules() if isinstance(child, ScaledActivation)]


def _beside(node: fx.Node, owner: fx.GraphModule, shapes: Shapes) -> Operation | None:
    """What a node does that has no gradient here; None where that is unknown."""
    inputs = [each for each in node.all_input_nodes if each in shapes]
    if len(inputs) != len(node.all_input_nodes) or not inputs:
        return None
    if node.op == "call_module":
        child = owner.get_submodule(str(node.target))
        return None if has_hooks(child) else _of_module(child, str(node.target), shapes[inputs[0]], shapes[node])
    if (applied := _activation(node)) is not None:
        return applied
    if node.target in (torch.cat, torch.concat):
        return _concat(node, inputs, shapes)
    if node.target in (operator.mul, torch.mul):
        return _product(node, inputs, shapes)
    if node.target in (torch.mean, "mean") and len(inputs) == 1:
        return _mean(node, shapes[inputs[0]], shapes[node])
    if node.target is F.interpolate and len(node.args) == 1:
        return _upsampled(nn.Upsample, node.kwargs, shapes[inputs[0]], shapes[node])
    return None


def _activation(node: fx.Node) -> PlainActivation | None:
    """A call of a function that is an operator, and changes nothing in place."""
    name = str(getattr(node.target, "__name__", node.target))
    of_torch = node.op == "call_method" or node.target in [getattr(each, name, None) for each in (torch, F)]
    if not of_torch or len(node.all_input_nodes) != 1 or True in (*node.args[1:], *node.kwargs.values()):
        return None
    if name == "hardsigmoid":
        return PlainActivation(HARDSIGMOID)
    found = operator_of_call(name, node.args[1:] if node.args else (), node.kwargs) if name in FUNCTIONS else None
    return PlainActivation(lookup(found)) if found else None


def _of_module(child: nn.Module, path: str, taken: tuple[int, ...], given: tuple[int, ...]) -> Operation | None:
    match child:
        case ScaledActivation():
            return Activation(path)
        case ChannelGroups() if type(child) is ChannelGroups:
            return Groups(tuple(f"{path}.{name}" for name in child._modules))
        case nn.Hardsigmoid() if is_plain(child, nn.Hardsigmoid) and not child.inplace:
            return PlainActivation(HARDSIGMOID)
        case nn.Upsample() if is_plain(child, nn.Upsample):
            settings = {name: getattr(child, name) for name in nn.Upsample.__constants__ if name != "name"}
            return _upsampled(nn.Upsample, settings, taken, given)
    name = None if getattr(child, "inplace", False) else operator_of(child)
    if name is None:
        return None
    return PlainActivation(lookup(name), (f"{path}.weight",) if isinstance(child, nn.PReLU) else ())


def _concat(node: fx.Node, inputs: Sequence[fx.Node], shapes: Shapes) -> Operation | None:
    given = shapes[node]
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    listed = node.args[0] if node.args else node.kwargs.get("tensors")
    along_channels = dimension in (1, -len(given)) and all(shapes[each][1:] == given[1:] for each in inputs)
    return Concat() if along_channels and listed is not None and list(cast(Any, listed)) == list(inputs) else None


def _product(node: fx.Node, inputs: Sequence[fx.Node], shapes: Shapes) -> Operation | None:
    if len(inputs) != 2 or len(node.args) != 2 or len(shapes[node]) != 3:
        return None
    for gate in (0, 1):
        planes = shapes[inputs[1 - gate]]
        if shapes[inputs[gate]] == (planes[0], 1, 1):
            return Product(gate)
    return None


def _mean(node: fx.Node, taken: tuple[int, ...], given: tuple[int, ...]) -> Operation | None:
    """The mean of whole planes, or signals."""
    told = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dimensions = [each for each in (told if isinstance(told, list | tuple) else [told]) if isinstance(each, int)]
    behind = list(range(2, 1 + len(taken)))  # the batch and the channels
    if not behind or sorted(each % (1 + len(taken)) for each in dimensions) != behind:
        return None
    if given not in (taken[:1], (taken[0], *(1 for _ in behind))):
        return None
    pixels = math.prod(taken[1:])
    return Average(np.arange(pixels)[None], np.array([1 / pixels]))


def _upsampled(
    kind: type[nn.Upsample], settings: Any, taken: tuple[int, ...], given: tuple[int, ...]
) -> Operation | None:
    """Nearest upsampling: which pixel each becomes, as torch itself says."""
    known = {name: settings.get(name) for name in ("size", "scale_factor", "recompute_scale_factor")}
    others = settings.keys() - known.keys() - {"mode"}
    if settings.get("mode", "nearest") != "nearest" or len(taken) != 3 or any(settings[name] for name in others):
        return None
    places = torch.arange(taken[1] * taken[2], dtype=torch.float64).reshape(1, 1, *taken[1:])
    table: Table = kind(**known)(places).to(torch.int64).reshape(-1, 1).numpy()
    return Average(table, np.ones(len(table))) if len(table) == given[1] * given[2] else None


def _foreign(node: fx.Node, owner: fx.GraphModule, shapes: Shapes, reason: str) -> Foreign:
    """A node as torch runs it.

    Raises:
        UnsupportedError: it takes other things than tensors, or changes what it takes.
    """
    inputs = list(node.all_input_nodes)
    if not inputs or not all(each in shapes for each in inputs) or _in_place(node, owner):
        raise UnsupportedError(reason)
    child = owner.get_submodule(str(node.target)) if node.op == "call_module" else None

    @torch.no_grad()
    def run(tensors: Sequence[Tensor]) -> Tensor:
        given = dict(zip(inputs, tensors, strict=True))
        arguments = fx.map_arg(node.args, given.__getitem__)
        settings = fx.map_arg(node.kwargs, given.__getitem__)
        if child is not None:
            return cast(Tensor, child(*arguments, **settings))
        if node.op == "call_method":
            return cast(Tensor, getattr(arguments[0], str(node.target))(*arguments[1:], **settings))
        return cast(Tensor, cast(Callable[..., Any], node.target)(*arguments, **settings))

    return Foreign(node.name, reason, run, tuple(shapes[each] for each in (*inputs, node)))


def _in_place(node: fx.Node, owner: fx.GraphModule) -> bool:
    """Whether a node may change what it takes, which others may read."""
    if node.op == "call_module":
        children = owner.get_submodule(str(node.target)).modules()
        return any(getattr(child, "inplace", False) for child in children)
    name = str(getattr(node.target, "__name__", node.target))
    return name.endswith("_") or (name in vars(operator) and name.startswith("i")) or bool(node.kwargs.get("inplace"))
