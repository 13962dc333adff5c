"""Tensors that a state dict has not: it holds what one of torch's parametrizations computes them from."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

COMPUTED_FROM = re.compile(r"(?P<layer>(?:.*\.)?)parametrizations\.(?P<tensor>[^.]+)\.(?P<part>.+)")
"""The name of a tensor of :mod:`torch.nn.utils.parametrize`."""

KINDS = {"original0": "weight_norm", "0._u": "spectral_norm", "0.base": "orthogonal"}
"""The part that shows which of :mod:`torch.nn.utils.parametrizations` computes a tensor."""

BEFORE_PARAMETRIZE = {("_g", "_v"): "weight_norm", ("_u", "_orig"): "spectral_norm"}
"""Two ends of names that show which of :mod:`torch.nn.utils`' functions of that name computes a tensor."""


def parametrized(state: Mapping[str, Tensor]) -> str:
    """Which tensor is computed, from what, and what to do before saving; empty where none is."""
    for name in state:
        if match := COMPUTED_FROM.fullmatch(name):
            return _told(name, match["layer"], match["tensor"], state)
        for (end, other), kind in BEFORE_PARAMETRIZE.items():
            computed = name.removesuffix(end)
            if name.endswith(end) and f"{computed}{other}" in state:
                done = f"torch.nn.utils.remove_{kind}(layer) belongs before saving"
                return f"holds {name} in place of {computed}, which {kind} computes; {done}"
    return ""


def _told(name: str, layer: str, tensor: str, state: Mapping[str, Tensor]) -> str:
    prefix = f"{layer}parametrizations.{tensor}."
    parts = [other.removeprefix(prefix) for other in state if other.startswith(prefix)]
    held = f"holds {name} in place of {layer}{tensor}"
    removed = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {tensor!r})"
    if parts == ["original"]:
        mask = "the mask of torch.ao.pruning is not in the file, and squash_mask() belongs before saving"
        return f"{held}; {mask}, or {removed} where something else computes it"
    kind = next((kind for part, kind in KINDS.items() if part in parts), "a parametrization")
    return f"{held}, which {kind} computes; {removed} belongs before saving"
