"""Sites: the places where a network applies an activation, and what is put there.

A site is found in any module by tracing it with :mod:`torch.fx`, so that a module applied twice and a
functional call are sites of their own. Where tracing fails, activation modules are replaced in place.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, fx, nn

from safs_ray.config import ConfigurationError
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
        self.internal = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(value)) for name, value in operator.parameters.items()}
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


@dataclass(frozen=True)
class Sited:
    """A module whose sites are known.

    Attributes:
        module: computes what the original did; each site is a submodule of its own, by the site's name.
        sites: names of the sites in the order of execution.
        defaults: name of the operator that the network itself applies at each site.
    """

    module: nn.Module
    sites: tuple[str, ...]
    defaults: tuple[str, ...]

    def install(self, operators: Sequence[Operator]) -> nn.Module:
        """Put one operator at each site, scales at 1; returns the module, changed in place."""
        for site, operator in zip(self.sites, operators, strict=True):
            parent, _, name = site.rpartition(".")
            self.module.get_submodule(parent).add_module(name, ScaledActivation(operator))
        return self.module


def find_sites(module: nn.Module, example: Tensor) -> Sited:
    """Find every activation of a module that is one of the table's operators.

    A site bears the path of its activation module, or of the module that calls a function followed by the
    function's name; a second application gets ``_2``, a third ``_3``.

    Args:
        module: any network; the result shares its weights.
        example: a batch (N, C, H, W) that the network accepts, to check networks that cannot be traced.

    Raises:
        ConfigurationError: there is no site, or a network that cannot be traced applies one module twice.
    """
    graph = _traced(module)
    sited = _replace_modules(module, example) if graph is None else _replace_nodes(module, graph)
    if not sited.sites:
        raise ConfigurationError(f"model: {type(module).__name__} applies no activation that can be searched")
    return sited


def _traced(module: nn.Module) -> fx.Graph | None:
    """The module's graph; None when it has none that holds for training and for evaluation alike."""
    mode = module.training
    try:
        graph, evaluation = (fx.Tracer().trace(module.train(training)) for training in (True, False))
    except Exception:  # tracing runs the network's own code on proxies, which may raise anything
        return None
    finally:
        module.train(mode)
    same = str(graph.python_code("self").src) == str(evaluation.python_code("self").src)
    return graph if same else None


def _replace_nodes(module: nn.Module, graph: fx.Graph) -> Sited:
    owner = fx.GraphModule(module, graph)
    # All are found before any is replaced: a module that is applied twice is the target of two nodes.
    found = [(node, operator) for node in graph.nodes if (operator := _operator_at(node, owner))]
    modules = {path for path, _ in module.named_modules()}
    sites: list[str] = []
    for node, _ in found:
        first = node.op == "call_module" and node.target not in sites
        sites.append(str(node.target) if first else _unused(_path(node), modules.union(sites)))
        owner.add_submodule(sites[-1], nn.Identity())
        value = node.args[0] if node.args else node.kwargs["input"]
        node.op, node.target, node.args, node.kwargs = "call_module", sites[-1], (value,), {}
    owner.recompile()
    return Sited(owner, tuple(sites), tuple(operator for _, operator in found))


def _operator_at(node: fx.Node, owner: nn.Module) -> str | None:
    """The operator that a node applies, or None."""
    if node.op == "call_module":
        return _operator_of(owner.get_submodule(str(node.target)))
    if node.op in ("call_function", "call_method"):
        name = getattr(node.target, "__name__", node.target)
        plain = len(node.args) + len(node.kwargs.keys() - {"inplace"}) == 1
        return FUNCTIONS.get(str(name)) if plain or name in ("relu", "relu_") else None
    return None


def _path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {"": None}
    caller = next(reversed(stack))
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    return f"{caller}.{name}" if caller else name


def _unused(path: str, taken: set[str]) -> str:
    if path not in taken:
        return path
    return next(name for i in count(2) if (name := f"{path}_{i}") not in taken)


def _replace_modules(module: nn.Module, example: Tensor) -> Sited:
    """Sites of a network that cannot be traced: its activation modules, each of which must run once."""
    module = copy.deepcopy(module)
    found = {path: operator for path, child in module.named_modules() if (operator := _operator_of(child))}
    calls: list[str] = []
    hooks = [
        module.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.append(path)) for path in found
    ]
    mode = module.training
    with torch.no_grad():
        module.eval()(example)
    module.train(mode)
    for hook in hooks:
        hook.remove()
    for path in found:
        if calls.count(path) > 1:
            raise ConfigurationError(
                f"model: {type(module).__name__} cannot be traced by torch.fx and applies its module {path} "
                f"{calls.count(path)} times; give each place an activation module of its own"
            )
    sites = tuple(calls)
    return Sited(module, sites, tuple(found[site] for site in sites))


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
}
"""Modules that are sites: the operator they equal, with these settings."""

FUNCTIONS: dict[str, str] = {
    "relu": "relu",
    "relu_": "relu",
    "relu6": "relu6",
    "hardswish": "hardswish",
    "silu": "swish",
    "gelu": "gelu",
    "elu": "elu",
    "tanh": "tanh",
    "softplus": "softplus",
    "logsigmoid": "logsigmoid",
}
"""Functions and tensor methods that are sites when called with the input alone."""
