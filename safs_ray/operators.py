"""The table of operators: the unary functions g of f(x) = alpha * g(beta * x).

Every operator is finite, with a finite gradient, for every finite input at its initial internal parameters.
Internal parameters are learned with the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from safs_ray.config import refusal


@dataclass(frozen=True)
class Operator:
    """A unary function of a tensor of any shape, applied element by element.

    Attributes:
        function: maps z, and a scalar tensor for each internal parameter, to g(z) in the shape of z.
        formula: g(z) as text.
        source: who proposed it.
        parameters: names and initial values of the internal parameters.
    """

    name: str
    function: Callable[..., Tensor]
    formula: str
    source: str
    parameters: dict[str, float] = field(default_factory=dict)


def find(names: Sequence[str], key: str) -> list[Operator]:
    """The operators of these names.

    Raises:
        ConfigurationError: naming ``key``, for a name that is not in the table or stands twice.
    """
    for index, name in enumerate(names):
        if name not in OPERATORS:
            raise refusal(key, name, f"unknown operator; allowed: {', '.join(OPERATORS)}")
        if name in names[:index]:
            raise refusal(key, name, "stands twice")
    return [OPERATORS[name] for name in names]


SYMEXP_BOUND = 10.0
"""symexp is continued by its tangent beyond this |z|; e**89 would overflow float32."""


def _symexp(z: Tensor) -> Tensor:
    size = _size(z)
    inside = torch.where(size < SYMEXP_BOUND, size, SYMEXP_BOUND)
    return _signed(torch.expm1(inside) + math.exp(SYMEXP_BOUND) * (size - inside), z)


def _symlog(z: Tensor) -> Tensor:
    return _signed(torch.log1p(_size(z)), z)


# With abs, sign or clamp in their place the gradient at z = 0, where sparse networks often are, would be 0, not 1.
def _size(z: Tensor) -> Tensor:
    return torch.where(z < 0, -z, z)


def _signed(size: Tensor, z: Tensor) -> Tensor:
    return torch.where(z < 0, -size, size)


def _acon(z: Tensor, p1: Tensor, p2: Tensor, p3: Tensor) -> Tensor:
    difference = (p1 - p2) * z
    return difference * torch.sigmoid(p3 * difference) + p2 * z


def _tanhsoft1(z: Tensor, a: Tensor) -> Tensor:
    return torch.tanh(a * z) * F.softplus(z)


def _srs(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    # The denominator's least value is (b/a) * (1 - ln(b/a)): positive only while b < e*a.
    a = a.clamp(min=0.05)
    b = torch.minimum(b.clamp(min=0.05), 2.5 * a)
    return z / (z / a + torch.exp((-z / b).clamp(max=40.0)))


_TORCH = "torch.nn.functional"

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator("relu", F.relu, "max(0, z)", _TORCH),
        Operator("relu6", F.relu6, "min(max(0, z), 6)", _TORCH),
        Operator("hardswish", F.hardswish, "z min(max(0, z + 3), 6) / 6", "Howard et al. 2019"),
        Operator("swish", F.silu, "z sigmoid(z)", "Ramachandran et al. 2017"),
        Operator(
            "tanhsoft1", _tanhsoft1, "tanh(a z) softplus(z)", "Biswas et al. 2021, TanhSoft-1", {"a": 1.0}
        ),
        # At p1 = p2 the gradient never leaves the identity: the original's start of all ones stays linear.
        Operator(
            "acon", _acon, "(p1 - p2) z sigmoid(p3 (p1 - p2) z) + p2 z", "Ma et al. 2021, ACON-C",
            {"p1": 1.2, "p2": -0.8, "p3": 1.0},
        ),
        Operator("gelu", F.gelu, "z Phi(z)", "Hendrycks & Gimpel 2016"),
        Operator(
            "srs", _srs, "z / (z/a + exp(-z/b)), b at most 2.5 a", "Zhou et al. 2020, Soft-Root-Sign",
            {"a": 1.0, "b": 1.0},
        ),
        Operator("elu", F.elu, "z for z > 0, else exp(z) - 1", "Clevert et al. 2016"),
        Operator("tanh", torch.tanh, "tanh(z)", _TORCH),
        Operator("softplus", F.softplus, "ln(1 + exp(z))", _TORCH),
        Operator("logsigmoid", F.logsigmoid, "-ln(1 + exp(-z))", _TORCH),
        Operator("symlog", _symlog, "sign(z) ln(1 + |z|)", "Hafner et al. 2023"),
        Operator(
            "symexp", _symexp, "sign(z) (exp(|z|) - 1), continued by its tangent beyond |z| = 10",
            "Hafner et al. 2023",
        ),
    )
}  # fmt: skip
"""Every operator by name, in the order of the original's list after the default, relu."""
