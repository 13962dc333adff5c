"""A network's graph by :mod:`torch.fx`, with a submodule at each place that applies an activation."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx, nn

import safs_ray
from safs_ray.activations.kinds import FUNCTIONS, GATES, has_hooks, operator_of, operator_of_call
from safs_ray.activations.sited import SitedNetwork, any_matches
from safs_ray.dropout import WithoutDropout, is_layer

_FACTORS = ("mul", "imul")
_VIEWS = ("view", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "expand_as", "getitem", "to")


class UntraceableError(Exception):
    """A network has no graph that holds for training and for evaluation alike; the message says why, and where."""


class _Tracer(fx.Tracer):
    """Keeps the layers of torch.nn whole, those of subclasses too, and records what is done to buffers."""

    proxy_buffer_attributes = True

    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,  # noqa: ARG002
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """The input alone: what else the network may be given is as it is by default."""
        first = list(inspect.signature(root_fn).parameters)[1]
        return root_fn, [self.root, self.create_proxy("placeholder", first, (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return is_layer(m)


class _Tracing(WithoutDropout):
    """While a network is traced; its graph would not switch gradients off, and train what is to stay."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(function, "__name__", "") == "_set_grad_enabled":
            raise RuntimeError("it switches gradients off and on")
        return super().__torch_function__(function, types, arguments, named)


def trace(module: nn.Module) -> fx.Graph:
    """The graph of a module, without dropout.

    Args:
        module: a copy that may be changed: buffers that its code changes are changed by tracing.

    Raises:
        UntraceableError: it has none, or one of its own for evaluation.
    """
    for path, child in module.named_modules():
        if has_hooks(child) and not _Tracer().is_leaf_module(child, path):
            raise UntraceableError(f"{path or 'the network'} has hooks")
    try:
        with _Tracing():
            graph, evaluation = (_Tracer().trace(module.train(training)) for training in (True, False))
    except Exception as error:  # tracing runs the network's own code on proxies, which may raise anything
        raise UntraceableError(_told(error)) from None
    if str(graph.python_code("self").src) != str(evaluation.python_code("self").src):
        raise UntraceableError("it does something else in training than in evaluation")
    return graph


def _told(error: Exception) -> str:
    """What an error says and the line of the network's own code that led to it."""
    outside = (str(Path(torch.__file__).parent), str(Path(safs_ray.__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(outside)]
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 120 else text[:117] + "..."
    return f"{text}, at {frames[-1].filename}:{frames[-1].lineno}" if frames else text


def replace_nodes(module: nn.Module, graph: fx.Graph, exclude: Sequence[str]) -> SitedNetwork:
    """The module's graph as a module of its own, with an empty submodule at every site."""
    owner = fx.GraphModule(module, graph)
    # All are found before any is replaced: a module that is applied twice is the target of two nodes.
    nodes = [(node, operator, _works_in_place(node, owner)) for node, operator in _activations(graph, owner)]
    place = {node: index for index, node in enumerate(graph.nodes)}
    taken = names_of(module)
    sites: dict[str, str] = {}
    learned: dict[str, str] = {}
    excluded: list[str] = []
    for node, operator, in_place in nodes:
        first = node.op == "call_module" and node.target not in [*sites, *excluded]
        site = str(node.target) if first else unused(_path(node), taken.union(sites, excluded))
        if any_matches(exclude, site):
            excluded.append(site)
            if node.op == "call_module":  # under a name of its own, for another call of it may be a site
                owner.add_submodule(site, module.get_submodule(str(node.target)))
                node.target = site
            continue
        sites[site] = operator
        if operator.startswith("prelu"):
            learned[f"{site}.internal.slope"] = f"{node.target}.weight"
        value = cast(fx.Node, node.args[0] if node.args else node.kwargs["input"])
        if in_place:  # what reads the input later means the output
            value.replace_all_uses_with(node, partial(_comes_later, place, node))
        owner.add_submodule(site, nn.Identity())
        node.op, node.target, node.args, node.kwargs = "call_module", site, (value,), {}
    owner.recompile()
    return SitedNetwork(owner, tuple(sites), tuple(sites.values()), tuple(excluded), learned)


def _comes_later(place: Mapping[fx.Node, int], node: fx.Node, user: fx.Node) -> bool:
    return place[user] > place[node]


def names_of(module: nn.Module) -> set[str]:
    """All names that submodules, parameters and buffers have."""
    return {
        name
        for named in (module.named_modules(), module.named_parameters(), module.named_buffers())
        for name, _ in named
    }


def unused(path: str, taken: set[str]) -> str:
    """The path, or with the first of _2, _3 … that is not taken."""
    if path not in taken:
        return path
    return next(name for i in count(2) if (name := f"{path}_{i}") not in taken)


def _activations(graph: fx.Graph, owner: nn.Module) -> Iterator[tuple[fx.Node, str]]:
    """The nodes that apply an operator to what depends on the input, and the operators."""
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(each in dependent for each in node.all_input_nodes):
            dependent.add(node)
        if node in dependent and (operator := _operator_at(node, owner)) and not _is_gate(node, operator):
            yield node, operator


def _operator_at(node: fx.Node, owner: nn.Module) -> str | None:
    """The operator that a node applies, or None."""
    if node.op == "call_module":
        return operator_of(owner.get_submodule(str(node.target)))
    function = _function_name(node)
    if node.op in ("call_function", "call_method") and function in FUNCTIONS:
        return operator_of_call(function, node.args[1:] if node.args else (), node.kwargs)
    return None


def _is_gate(node: fx.Node, operator: str) -> bool:
    """Whether the value of an operator is a factor, or the network's output."""
    if operator not in GATES:
        return False
    users = list(node.users)
    while any(_function_name(user) in _VIEWS for user in users):
        users = [reader for user in users for reader in (user.users if _function_name(user) in _VIEWS else [user])]
    return any(user.op == "output" or _function_name(user) in _FACTORS for user in users)


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def _works_in_place(node: fx.Node, owner: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(owner.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    flags = [node.kwargs.get("inplace"), *node.args[1:]]
    return name.endswith("_") or any(each is True for each in flags)


def _path(node: fx.Node) -> str:
    """The module's path, or that of the module that calls the function and the function's name."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {"": None}
    caller = re.sub(r"@\d+", "", next(reversed(stack)))  # torch marks a module's later calls so
    return f"{caller}.{_function_name(node)}" if caller else _function_name(node)
