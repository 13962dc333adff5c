"""Functions with settings of their own, such as ``leaky_relu(0.2)``: what networks bring that the table lacks.

The settings stay as they are; the slopes of prelu are learned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from safs_ray.operators.operator import Operator

_NAME = re.compile(r"([a-z_]+)(?:\(([^()]*)\))?")
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?")


class Variant(NamedTuple):
    """A function of z and settings.

    Attributes:
        formula: g(z) as text, with the settings' names in braces.
        settings: their names and what they are unless a name says otherwise, all floats.
    """

    function: Callable[..., Tensor]
    formula: str
    source: str
    settings: dict[str, float]


# By torch.where, to the bits of F.leaky_relu and F.prelu: so they are compiled without rules of their own.
def _leaky_relu(z: Tensor, negative_slope: float) -> Tensor:
    return torch.where(z > 0, z, negative_slope * z)


def _prelu(z: Tensor, slope: Tensor) -> Tensor:
    return torch.where(z > 0, z, slope * z)


def _prelu_by_channel(z: Tensor, slope: Tensor) -> Tensor:
    return _prelu(z, slope.reshape(-1, *[1] * (z.dim() - 2)))


VARIANTS: dict[str, Variant] = {
    "leaky_relu": Variant(
        _leaky_relu, "z for z > 0, else {negative_slope} z", "Maas et al. 2013", {"negative_slope": 0.01}
    ),
    "elu": Variant(F.elu, "z for z > 0, else {alpha} (exp(z) - 1)", "Clevert et al. 2016", {"alpha": 1.0}),
    "celu": Variant(F.celu, "z for z > 0, else {alpha} (exp(z/{alpha}) - 1)", "Barron 2017", {"alpha": 1.0}),
    "softplus": Variant(
        F.softplus, "ln(1 + exp({beta} z)) / {beta}, z beyond {beta} z = {threshold}", "torch.nn.functional",
        {"beta": 1.0, "threshold": 20.0},
    ),
    "hardtanh": Variant(
        F.hardtanh, "min(max({min_val}, z), {max_val})", "torch.nn.functional", {"min_val": -1.0, "max_val": 1.0}
    ),
    "gelu_tanh": Variant(
        partial(F.gelu, approximate="tanh"), "z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2",
        "Hendrycks & Gimpel 2016", {},
    ),
}  # fmt: skip
"""By name. Of one that is in the table of operators, too, only settings other than the table's make a variant."""


def named(base: str, settings: Mapping[str, float]) -> str:
    """The name of a function with settings, ``leaky_relu(0.2)``; the function's own where all are as usual."""
    usual = VARIANTS[base].settings
    values = {**usual, **settings}
    return base if values == usual else f"{base}({', '.join(map(_text, values.values()))})"


def prelu(channels: int) -> str:
    """The name of the PReLU with one slope, or with one for each of several channels."""
    return "prelu" if channels == 1 else f"prelu({channels})"


def find_variant(name: str) -> Operator | None:
    """The operator of such a name; None where it is the name of none."""
    match = _NAME.fullmatch(name)
    values = re.split(r",\s*", match[2]) if match and match[2] else []
    if not match or not all(map(_NUMBER.fullmatch, values)):
        return None
    if match[1] == "prelu":
        return _find_prelu(name, values)
    variant = VARIANTS.get(match[1])
    if variant is None or len(values) not in (0, len(variant.settings)):
        return None
    settings = dict(zip(variant.settings, map(float, values), strict=True)) if values else variant.settings
    formula = variant.formula.format(**{setting: _text(value) for setting, value in settings.items()})
    return Operator(name, partial(variant.function, **settings), formula, variant.source)


def _find_prelu(name: str, values: Sequence[str]) -> Operator | None:
    if values and (len(values) > 1 or not values[0].isdigit() or name != prelu(int(values[0]))):
        return None
    channels = int(values[0]) if values else None
    if channels == 0:
        return None
    function = _prelu_by_channel if values else _prelu
    return Operator(name, function, "z for z > 0, else slope z", "He et al. 2015", {"slope": 0.25}, channels)


def described() -> list[str]:
    """The names of all variants, with their settings' names."""
    return [
        "prelu",
        *(f"{base}({', '.join(each.settings)})" if each.settings else base for base, each in VARIANTS.items()),
    ]


def _text(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
