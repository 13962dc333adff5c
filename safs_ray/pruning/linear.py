"""A network without what is not linear in it: its activations, its normalisations, a softmax at its end."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from safs_ray.activations.calls import Calls, Place

NORMALISATIONS = (
    "batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm", "local_response_norm", "normalize"
)  # fmt: skip
"""Functions that take something out of the values themselves; batch_norm does so where it has no running statistics."""

GATES = ("sigmoid", "hardsigmoid")
"""Activations that stay: a factor of 0 would stop what it is multiplied with."""

_ENDS = ("softmax", "log_softmax", "softmin")


class Linear(nn.Module):
    """Runs a module without its activations; a softmax at its end does nothing, as the loss takes logits.

    Args:
        module: whose sites are :class:`torch.nn.Identity`.
        normalises: whether normalisations by an image's own values stay.
    """

    def __init__(self, module: nn.Module, normalises: bool) -> None:
        super().__init__()
        self.module, self.normalises = module, normalises

    def forward(self, images: Tensor) -> Tensor:
        with _Straight(self.module, self.normalises) as straight:
            return straight.before_softmax(self.module(images))


class _Straight(Calls):
    def __init__(self, network: nn.Module, normalises: bool) -> None:
        super().__init__(network)
        self._normalises = normalises
        self._ends: dict[int, tuple[Tensor, Tensor]] = {}

    def before_softmax(self, output: Tensor) -> Tensor:
        """What the softmax took that gave this output; the output itself where none gave it."""
        return self._ends[id(output)][1] if id(output) in self._ends else output

    def activation(
        self,
        place: Place,
        value: Tensor,
        in_place: bool,
        function: Any,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        if place.function in GATES:
            return super().activation(place, value, in_place, function, arguments, named)
        return value

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        name, named = getattr(function, "__name__", ""), named or {}
        if name in NORMALISATIONS and not self._normalises and not _has_statistics(name, arguments, named):
            return arguments[0] if arguments else named["input"]
        output = super().__torch_function__(function, types, arguments, named)
        if name in _ENDS:
            self._ends[id(output)] = output, arguments[0] if arguments else named["input"]
        return output


def _has_statistics(name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether a normalisation goes by running statistics, which do not depend on the images."""
    bound = {**dict(zip(("input", "mean", "variance", "weight", "bias", "training"), arguments, strict=False)), **named}
    return name == "batch_norm" and bound.get("mean") is not None and not bound.get("training")


def without_sites(module: nn.Module, sites: Sequence[str]) -> nn.Module:
    """A copy in evaluation mode, in which sites do nothing."""
    straight = copy.deepcopy(module).eval()
    for path in sites:
        parent, _, name = path.rpartition(".")
        straight.get_submodule(parent).add_module(name, nn.Identity())
    return straight


@torch.no_grad()
def linearised(module: nn.Module, sites: Sequence[str]) -> Linear:
    """A copy of a module as a linear one that only adds: an input of ones gives outputs of at least 0.

    It computes in float64, in evaluation mode. Weights have their absolute values, biases and running means are
    zero, sites and normalisations by an image's own values do nothing.
    """
    linear = without_sites(module, sites).double()
    for name, tensor in [*linear.named_parameters(), *linear.named_buffers()]:
        if name.rpartition(".")[2] in ("bias", "running_mean"):
            tensor.zero_()
        elif tensor.is_floating_point():  # a buffer may hold numbers or masks of its own
            tensor.abs_()
    return Linear(linear, normalises=False)
