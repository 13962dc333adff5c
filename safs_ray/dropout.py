"""Dropout in every form, switched off: it draws from the global generator, so that no run could be repeated."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

PROBABILITIES: dict[type[nn.Module], str] = {
    nn.Dropout: "p",
    nn.Dropout1d: "p",
    nn.Dropout2d: "p",
    nn.Dropout3d: "p",
    nn.AlphaDropout: "p",
    nn.FeatureAlphaDropout: "p",
    nn.MultiheadAttention: "dropout",
    nn.RNNBase: "dropout",
}
"""Layers of torch that drop something, and the attribute that says how much."""

INNER = (nn.MultiheadAttention, nn.RNNBase)
"""Those that do so within, whatever a subclass does around it."""

IDENTITIES = ("StochasticDepth", "DropBlock2d", "DropBlock3d")
"""Classes of torchvision's that are the identity without dropping, but stay in a graph. Others' of the same names may
hold layers, or add a residual."""

DROPPING = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
)
"""Functions of torch that return their input where nothing is dropped."""


def switch_off(module: nn.Module) -> list[str]:
    """Switch off the dropout of all layers, in place; returns the names of those that dropped something.

    Dropout that a forward pass calls as a function is left to :class:`WithoutDropout`.
    """
    dropping = []
    for name, child in list(module.named_modules()):
        attribute = _probability(child)
        if attribute and getattr(child, attribute):
            dropping.append(name)
            setattr(child, attribute, 0.0)
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if name and _is_identity(child):
            module.set_submodule(name, nn.Identity())
    return dropping


def _probability(layer: nn.Module) -> str | None:
    """The attribute that says how much a layer drops; None of a layer that drops nothing, or has code of its own."""
    if _is_identity(layer):
        return "p"
    known = next((attribute for kind, attribute in PROBABILITIES.items() if isinstance(layer, kind)), None)
    return known if _is_from("torch", layer) or isinstance(layer, INNER) else None


def _is_identity(layer: nn.Module) -> bool:
    return type(layer).__name__ in IDENTITIES and _is_from("torchvision", layer)


def _is_from(package: str, layer: nn.Module) -> bool:
    """Whether a package's code is what runs: a subclass may scale in evaluation by what is set here."""
    written = type(layer).forward.__module__ or ""  # that of a traced network is in no module
    return written.partition(".")[0] == package


class _AsInEvaluation(nn.Module):
    """A base that a module's class is given: its own code never trains, the modules within it do."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.training = False
        return self


def hold_in_evaluation(module: nn.Module, example: Tensor) -> list[str]:
    """Let modules whose own code draws random numbers in training do as in evaluation, in place; returns their names.

    So is switched off what :func:`switch_off` and :class:`WithoutDropout` do not know: stochastic depth and other
    dropping in modules and functions of a network's own or of a library, and RReLU.

    Args:
        example: a batch that the module accepts.
    """
    drawing = _Drawing(copy.deepcopy(module).train())
    with suppress(Exception), torch.random.fork_rng(devices=[]), torch.no_grad(), drawing:  # a fault is told elsewhere
        drawing.network(example)
    # RReLU draws for negative inputs alone, of which an example may have none.
    found = {name: each for name, each in module.named_modules() if name in drawing.found or isinstance(each, nn.RReLU)}
    for child in found.values():
        child.__class__ = type(type(child).__name__, (_AsInEvaluation, type(child)), {})
        child.train(child.training)
    return list(found)


class WithoutDropout(TorchFunctionMode):
    """While it is entered, functions of torch drop nothing.

    Attributes:
        dropping: names of the functions that would have dropped something.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropping: list[str] = []

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in DROPPING:
            bound = _bound(arguments, named or {})
            if bound["p"] and bound["training"]:
                self.dropping.append(name)
            return bound["input"]
        if name == "scaled_dot_product_attention" or name == "multi_head_attention_forward":
            return self._attention(function, arguments, named or {})
        return function(*arguments, **(named or {}))

    def _attention(self, function: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Attention of which nothing is dropped."""
        bound = inspect.signature(_ATTENTION[function.__name__]).bind(*arguments, **named).arguments
        if bound.get("dropout_p"):
            self.dropping.append(function.__name__)
            bound["dropout_p"] = 0.0
        return function(**bound)


def _attend(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> None:
    """The arguments of F.scaled_dot_product_attention, which is written in C++ and does not tell them."""


_ATTENTION: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _attend,
    "multi_head_attention_forward": F.multi_head_attention_forward,
}


def _bound(arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Input, probability and whether it trains, as F.dropout or torch.dropout is given them."""
    names = ("input", "p", "training")
    aliases = {"train": "training"}
    bound = {**dict(zip(names, arguments, strict=False)), **{aliases.get(name, name): named[name] for name in named}}
    return {"p": 0.5, "training": True, **bound}


class OwnCode(WithoutDropout):
    """While it is entered, and a network runs, knows which module's own code is at work.

    Attributes:
        network: that runs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._paths = {child: path for path, child in network.named_modules()}
        self._running: list[nn.Module] = [network]
        self._hooks = ExitStack()

    @property
    def running(self) -> nn.Module:
        """The module whose own code is at work."""
        return self._running[-1]

    @property
    def path(self) -> str:
        """Its name in the network; empty for the network itself and for modules that are none of it."""
        path: str = self._paths.get(self.running, "")
        return path

    def __enter__(self) -> Self:
        self._hooks.callback(register_module_forward_pre_hook(lambda each, _: self._running.append(each)).remove)
        self._hooks.callback(register_module_forward_hook(self._end, always_call=True).remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def _end(self, *_: Any) -> None:
        self._running.pop()


class _Drawing(OwnCode):
    """Notes which modules' own code draws from torch's global generator, or is a layer that drops within.

    Attributes:
        found: their names.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.found: dict[str, None] = {}

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        before, dropping = torch.default_generator.get_state(), len(self.dropping)
        result = super().__torch_function__(function, types, arguments, named)
        # A graph calls a layer, a subclass of torch's too, as it is: what it does within is not seen there.
        hidden = len(self.dropping) > dropping and is_layer(self.running) and not _is_from("torch", self.running)
        if hidden or not torch.equal(torch.default_generator.get_state(), before):
            self.found[self.path] = None
        return result


CONTAINERS = ("torch.nn.modules.container", "torch.nn.modules.module", "torch.nn.modules.transformer")
"""Where the classes of torch.nn are that are no layers."""


def is_layer(module: nn.Module) -> bool:
    """Whether a graph calls a module as it is: a layer of torch.nn or of a class derived from one, with none within."""
    kinds = [kind.__module__ for kind in type(module).__mro__]
    layer = any(kind.startswith("torch.nn") and kind not in CONTAINERS for kind in kinds)
    own_class = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    return layer and (own_class or not any(module.children()))
