"""Which operator a module or a function of torch is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from safs_ray.operators.variants import named, prelu

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "relu": (),
    "relu6": (),
    "hardswish": (),
    "silu": (),
    "gelu": ("approximate",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "leaky_relu": ("negative_slope",),
    "tanh": (),
    "sigmoid": (),
    "softplus": ("beta", "threshold"),
    "logsigmoid": (),
    "log_sigmoid": (),
    "selu": (),
    "hardtanh": ("min_val", "max_val"),
    "mish": (),
}
"""Functions and tensor methods of torch that may be sites, in place or not, and the settings that follow their input.

sin and cos are none: they mostly encode positions.
"""

OTHER_NAMES = {"silu": "swish", "log_sigmoid": "logsigmoid"}
"""Operators that torch calls otherwise."""

MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.ELU: "elu",
    nn.CELU: "celu",
    nn.LeakyReLU: "leaky_relu",
    nn.PReLU: "prelu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
    nn.LogSigmoid: "logsigmoid",
    nn.SELU: "selu",
    nn.Hardtanh: "hardtanh",
    nn.Mish: "mish",
}
"""Modules that may be sites: the functions that they apply. Their settings are attributes of the same names."""

LEFT_ALONE = (
    "prelu", "hardsigmoid", "softsign", "tanhshrink", "softshrink", "hardshrink", "threshold", "rrelu", "glu",
    "softmax", "log_softmax", "softmin",
)  # fmt: skip
"""Functions that torch counts among its activations and that are no operators when they are called; they stay."""

GATES = ("sigmoid",)
"""Functions that are no sites where their range of 0 to 1 matters: as factors (squeeze-and-excitation), and last."""


def operator_of(module: nn.Module) -> str | None:
    """The operator that a module equals; None for one that is no activation, or a subclass that computes its own."""
    function = next((function for kind, function in MODULES.items() if is_plain(module, kind)), None)
    if function is None:
        return None
    if isinstance(module, nn.PReLU):
        return prelu(module.num_parameters)
    return named_call(function, {setting: getattr(module, setting) for setting in FUNCTIONS[function]})


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module computes what torch's own class does: one of it, or of a subclass that only sets it up."""
    if not isinstance(module, kind) or has_hooks(module):
        return False
    methods = [name for name in ("forward", "_conv_forward") if hasattr(kind, name)]
    return all(getattr(type(module), name) is getattr(kind, name) and name not in vars(module) for name in methods)


def has_hooks(module: nn.Module) -> bool:
    """Whether code runs before or after the module's own, and may change what it takes or gives."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def operator_of_call(function: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str | None:
    """The operator that a call of a function equals; None where its settings are no finite numbers.

    Args:
        arguments: those after the input.
    """
    settings = {**dict(zip((*FUNCTIONS[function], "inplace"), arguments, strict=False)), **keywords}
    return named_call(function, {name: value for name, value in settings.items() if name not in ("input", "inplace")})


def named_call(function: str, settings: Mapping[str, Any]) -> str | None:
    """The operator of a function with settings, or with torch's own where one is not given."""
    if not set(settings) <= set(FUNCTIONS[function]):
        return None
    if function == "gelu":
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(settings.get("approximate", "none"))
    if not FUNCTIONS[function]:
        return OTHER_NAMES.get(function, function)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in settings.values()):
        return None
    return named(function, settings)
