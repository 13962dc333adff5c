"""Sites: the places where a network applies an activation, and what is put there.

A site is found in any module by tracing it with :mod:`torch.fx`, so that a module applied twice and a
functional call are sites of their own. Where tracing fails, activation modules are replaced in place.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count

import torch
from torch import Tensor, fx, nn

from safs_ray.config import ConfigurationError, refusal
from safs_ray.operators import Operator


class ScaledActivation(nn.Module):
    """f(x) = alpha * g(beta * x), element by element, for x of any shape (SAFS, section 3).

    Parameters: the scales ``alpha`` and ``beta``, scalars that start at 1, and g's internal parameters.
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))
        self.internal = nn.ParameterDict(  # from pairs: it would sort a dict, and the function takes them in order
            (name, nn.Parameter(torch.tensor(value))) for name, value in operator.parameters.items()
        )

        self._unscaled = False

    def freeze_scales(self) -> None:
        """Learn the scales no more. At 1, where stage 1 keeps them, they are not multiplied with either."""
        self.alpha.requires_grad_(False)
        self.beta.requires_grad_(False)
        self._unscaled = self.alpha.item() == self.beta.item() == 1

    def forward(self, x: Tensor) -> Tensor:
        if self._unscaled:
            return self.operator.function(x, *self.internal.values())
        return self.alpha * self.operator.function(self.beta * x, *self.internal.values())

    def extra_repr(self) -> str:
        return self.operator.name


class ChannelGroups(nn.Module):
    """Splits dimension 1, the channels, into contiguous blocks and applies one of its children to each.

    Blocks differ by at most one channel, the larger ones first.
    """

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.tensor_split(len(self._modules), dim=1)
        return torch.cat([activation(block) for activation, block in zip(self.children(), blocks, strict=True)], dim=1)


@dataclass(frozen=True)
class Sited:
    """A module whose sites are known.

    Attributes:
        module: computes what the original did; each site is a submodule of its own, by the site's name.
        sites: names of the sites in the order of execution.
        defaults: name of the operator that the network itself applies at each site.
        excluded: names of the activations that were told to be no sites and stay as they are.
    """

    module: nn.Module
    sites: tuple[str, ...]
    defaults: tuple[str, ...]
    excluded: tuple[str, ...]

    def install(self, operators: Sequence[Operator]) -> nn.Module:
        """Put one operator at each site, scales at 1; returns the module, changed in place."""
        for site, operator in zip(self.sites, operators, strict=True):
            self._put(site, ScaledActivation(operator))
        return self.module

    def grouped(self, groups: int) -> Sited:
        """The same module, changed in place, with so many sites ``SITE.0``, ``SITE.1``, … for each of its sites."""
        for site in self.sites:
            self._put(site, ChannelGroups())
        return Sited(
            self.module,
            tuple(f"{site}.{group}" for site in self.sites for group in range(groups)),
            tuple(operator for operator in self.defaults for _ in range(groups)),
            self.excluded,
        )

    def _put(self, site: str, activation: nn.Module) -> None:
        parent, _, name = site.rpartition(".")
        self.module.get_submodule(parent).add_module(name, activation)


def find_sites(module: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> Sited:
    """Find every activation of a module that is one of the table's operators.

    A site bears the path of its activation module, or of the module that calls a function followed by the
    function's name; a second application gets ``_2``, a third ``_3``.

    Args:
        module: any network; it stays as it is. The result shares its weights where it can be traced.
        example: a batch (N, C, H, W) that the network accepts, to check networks that cannot be traced.
        exclude: patterns, as of :mod:`fnmatch`, of sites that are to stay as they are.

    Raises:
        ConfigurationError: there is no site, a pattern is of no activation and no module, or a network that cannot
            be traced applies one module twice.
    """
    graph = _traced(module)
    sited = _replace_modules(module, example, exclude) if graph is None else _replace_nodes(module, graph, exclude)
    names = [*sited.sites, *sited.excluded, *(path for path, _ in module.named_modules())]
    for pattern in exclude:
        if not any(_any_matches([pattern], name) for name in names):
            raise refusal("model.exclude", pattern, f"matches nothing; the sites are {', '.join(sited.sites)}")
    if not sited.sites:
        raise ConfigurationError(f"model: {type(module).__name__} applies no activation that can be searched")
    return sited


def input_shapes(module: nn.Module, sites: Sequence[str], example: Tensor) -> dict[str, torch.Size]:
    """The shape of what each site of a module takes, by site, when the module takes this batch."""
    shapes: dict[str, torch.Size] = {}
    hooks = [
        module.get_submodule(site).register_forward_pre_hook(
            lambda _, inputs, site=site: shapes.__setitem__(site, inputs[0].shape)
        )
        for site in sites
    ]
    with _modes_kept(module), torch.no_grad():
        module.eval()(example)
    for hook in hooks:
        hook.remove()
    return shapes


def _traced(module: nn.Module) -> fx.Graph | None:
    """The module's graph; None when it has none that holds for training and for evaluation alike."""
    with _modes_kept(module):
        try:
            graph, evaluation = (fx.Tracer().trace(module.train(training)) for training in (True, False))
        except Exception:  # tracing runs the network's own code on proxies, which may raise anything
            return None
    same = str(graph.python_code("self").src) == str(evaluation.python_code("self").src)
    return graph if same else None


@contextmanager
def _modes_kept(module: nn.Module) -> Iterator[None]:
    """Leave every submodule in training or evaluation mode as it was."""
    modes = {child: child.training for child in module.modules()}
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training


def _replace_nodes(module: nn.Module, graph: fx.Graph, exclude: Sequence[str]) -> Sited:
    owner = fx.GraphModule(module, graph)
    # All are found before any is replaced: a module that is applied twice is the target of two nodes.
    found = [
        (node, operator, _works_in_place(node, owner))
        for node in graph.nodes
        if (operator := _operator_at(node, owner))
    ]
    place = {node: index for index, node in enumerate(graph.nodes)}
    names = {
        name
        for named in (module.named_modules(), module.named_parameters(), module.named_buffers())
        for name, _ in named
    }
    sites: dict[str, str] = {}
    excluded: list[str] = []
    for node, operator, in_place in found:
        first = node.op == "call_module" and node.target not in [*sites, *excluded]
        site = str(node.target) if first else _unused(_path(node), names.union(sites, excluded))
        if _any_matches(exclude, site):
            excluded.append(site)
            if node.op == "call_module":  # under a name of its own, for another call of it may be a site
                owner.add_submodule(site, module.get_submodule(str(node.target)))
                node.target = site
            continue
        sites[site] = operator
        value = node.args[0] if node.args else node.kwargs["input"]
        if in_place:  # what reads the input later means the output
            value.replace_all_uses_with(node, lambda user, node=node: place[user] > place[node])
        owner.add_submodule(site, nn.Identity())
        node.op, node.target, node.args, node.kwargs = "call_module", site, (value,), {}
    owner.recompile()
    return Sited(owner, tuple(sites), tuple(sites.values()), tuple(excluded))


def _any_matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _operator_at(node: fx.Node, owner: nn.Module) -> str | None:
    """The operator that a node applies, or None."""
    if node.op == "call_module":
        return _operator_of(owner.get_submodule(str(node.target)))
    if node.op in ("call_function", "call_method"):
        operator, settings = FUNCTIONS.get(_function_name(node), (None, {}))
        given = {key: value for key, value in node.kwargs.items() if key not in ("input", "inplace")}
        plain = len(node.args) + ("input" in node.kwargs) == 1
        return operator if plain and given.items() <= settings.items() else None
    return None


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).strip("_")


def _works_in_place(node: fx.Node, owner: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(owner.get_submodule(str(node.target)), "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    return bool(node.kwargs.get("inplace")) or name.endswith("_")


def _path(node: fx.Node) -> str:
    """The module's path, or that of the module that calls the function and the function's name."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {"": None}
    caller = re.sub(r"@\d+", "", next(reversed(stack)))  # torch marks a module's later calls so
    return f"{caller}.{_function_name(node)}" if caller else _function_name(node)


def _unused(path: str, taken: set[str]) -> str:
    if path not in taken:
        return path
    return next(name for i in count(2) if (name := f"{path}_{i}") not in taken)


def _replace_modules(module: nn.Module, example: Tensor, exclude: Sequence[str]) -> Sited:
    """Sites of a network that cannot be traced: its activation modules, each of which must run once."""
    module = copy.deepcopy(module)
    names: dict[nn.Module, list[str]] = {}
    excluded: list[str] = []
    for path, child in module.named_modules(remove_duplicate=False):
        if _operator_of(child) and _any_matches(exclude, path):
            excluded.append(path)
        elif _operator_of(child):
            names.setdefault(child, []).append(path)
    calls: list[nn.Module] = []
    hooks = [child.register_forward_hook(lambda child, *_: calls.append(child)) for child in names]
    with _modes_kept(module), torch.no_grad():
        module.eval()(example)
    for hook in hooks:
        hook.remove()
    for child, paths in names.items():
        times = calls.count(child)
        if times > 1 or len(paths) > 1:
            shared = f"applies its module {paths[0]} {times} times" if times > 1 else f"shares {' = '.join(paths)}"
            raise ConfigurationError(
                f"model: {type(module).__name__} cannot be traced by torch.fx and {shared}; "
                "give each place an activation module of its own"
            )
    sites = {names[child][0]: str(_operator_of(child)) for child in calls}
    return Sited(module, tuple(sites), tuple(sites.values()), tuple(excluded))


def _operator_of(module: nn.Module) -> str | None:
    """The operator that a module of torch.nn equals; one with other settings is no operator of the table."""
    for kind, (operator, settings) in MODULES.items():
        if type(module) is kind and all(getattr(module, key) == value for key, value in settings.items()):
            return operator
    return None


MODULES: dict[type[nn.Module], tuple[str, dict[str, object]]] = {
    nn.ReLU: ("relu", {}),
    nn.ReLU6: ("relu6", {}),
    nn.Hardswish: ("hardswish", {}),
    nn.SiLU: ("swish", {}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.Tanh: ("tanh", {}),
    nn.Softplus: ("softplus", {"beta": 1, "threshold": 20}),
    nn.LogSigmoid: ("logsigmoid", {}),
    nn.SELU: ("selu", {}),
    nn.Hardtanh: ("hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    nn.Mish: ("mish", {}),
}
"""Modules that are sites: the operator they equal, with these settings.

nn.Sigmoid is none: it is mostly a gate, as in squeeze-and-excitation, where its range of 0 to 1 matters.
"""

FUNCTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "relu": ("relu", {}),
    "relu6": ("relu6", {}),
    "hardswish": ("hardswish", {}),
    "silu": ("swish", {}),
    "gelu": ("gelu", {"approximate": "none"}),
    "elu": ("elu", {"alpha": 1.0}),
    "tanh": ("tanh", {}),
    "softplus": ("softplus", {"beta": 1, "threshold": 20}),
    "logsigmoid": ("logsigmoid", {}),
    "log_sigmoid": ("logsigmoid", {}),
    "selu": ("selu", {}),
    "hardtanh": ("hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "mish": ("mish", {}),
}
"""Functions and tensor methods that are sites, in place or not, when called with these settings or none.

sigmoid is none, as above; sin and cos are none: they mostly encode positions.
"""
