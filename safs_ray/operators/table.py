"""The operators: the unary functions g of f(x) = alpha * g(beta * x).

Every operator of the table is finite, with a finite gradient, for every |z| up to 1e30 at its initial internal
parameters. Internal parameters are learned with the weights; they begin where the gradient of each moves it.

Two functions that the original also names are not here, for they are not functions of one element:

- meta_acon (Ma et al. 2021) computes its switching factor from the means of all channels by two layers of its own
  for every width; acon is the same function with a factor that is learned.
- ash (Lee et al. 2022) takes its threshold from the mean and deviation of a whole feature map, the original from a
  percentile of it, so that every element depends on all others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from safs_ray.operators.operator import Operator

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


def _linear(z: Tensor) -> Tensor:
    return z.clone()  # what follows in the network may change its input in place


def _elish(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * F.elu(z)


def _hard_elish(z: Tensor) -> Tensor:
    return ((z + 1) / 2).clamp(0, 1) * F.elu(z)


def _tanhsoft2(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return z * torch.tanh(a * torch.exp((b * z).clamp(max=40.0)))


def _srelu(z: Tensor, t_l: Tensor, a_l: Tensor, t_r: Tensor, a_r: Tensor) -> Tensor:
    t_r = torch.maximum(t_l, t_r)
    below = torch.where(z < t_l, z - t_l, 0)
    above = torch.where(z > t_r, z - t_r, 0)
    return z + (a_l - 1) * below + (a_r - 1) * above


def _falu(z: Tensor, p: Tensor, q: Tensor) -> Tensor:
    # Smooth maps hold the published ranges: a parameter that was clamped would never come back.
    order, b = 2 * torch.sigmoid(p), 1 + 9 * torch.sigmoid(q)
    gate = torch.sigmoid(b * z)
    swish = z * gate
    first = swish * torch.sigmoid(-b * z) + gate  # swish + gate (1 - swish) without its cancellation
    to_first, to_second = order.clamp(max=1), (order - 1).clamp(min=0)
    return (1 - to_first) * swish + to_first * first + to_second * gate * (1 - 2 * first)


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
        Operator("linear", _linear, "z", "the identity"),
        Operator("selu", F.selu, "1.0507 z for z > 0, else 1.7581 (exp(z) - 1)", "Klambauer et al. 2017"),
        Operator("hardtanh", F.hardtanh, "min(max(-1, z), 1)", _TORCH),
        Operator("sigmoid", torch.sigmoid, "1 / (1 + exp(-z))", _TORCH),
        Operator("mish", F.mish, "z tanh(ln(1 + exp(z)))", "Misra 2020"),
        Operator("sin", torch.sin, "sin(z)", "Sitzmann et al. 2020"),
        Operator("cos", torch.cos, "cos(z)", "Ramachandran et al. 2017, among the unary functions searched"),
        Operator("elish", _elish, "elu(z) sigmoid(z), which is z sigmoid(z) for z > 0", "Basirat & Roth 2018"),
        # The original takes 0.2 z + 0.5 for the hard sigmoid; this is the paper's.
        Operator("hard_elish", _hard_elish, "elu(z) min(max(0, (z + 1) / 2), 1)", "Basirat & Roth 2018"),
        Operator(
            "tanhsoft2", _tanhsoft2, "z tanh(a exp(b z)), b z at most 40", "Biswas et al. 2021, TanhSoft-2",
            {"a": 0.6, "b": 1.0},
        ),
        # At a slope of 1, where the original starts a_r, the threshold beside it has no gradient.
        Operator(
            "srelu", _srelu,
            "t_l + a_l (z - t_l) for z < t_l, t_r + a_r (z - t_r) for z > t_r, else z; t_r at least t_l",
            "Jin et al. 2016", {"t_l": 0.0, "a_l": 0.2, "t_r": 1.0, "a_r": 0.5},
        ),
        Operator(
            "falu", _falu,
            "(1 - a) s + a h for a <= 1, else h + (a - 1) sigmoid(b z) (1 - 2 h), with s = z sigmoid(b z), "
            "h = s + sigmoid(b z) (1 - s), a = 2 sigmoid(p), b = 1 + 9 sigmoid(q)",
            "Zamora et al. 2022; beyond a = 1 as Alijani & Molek 2023 correct it", {"p": -2.0, "q": -2.0},
        ),
    )
}  # fmt: skip
"""Every operator by name: relu, the thirteen that the original searches, those that it also implements."""
