"""What can flow from the inputs to the outputs along the weights that are left, whatever the images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from safs_ray.config import counted
from safs_ray.pruning.masks import PRUNABLE, prunable_weights

CENTRING = (nn.LayerNorm, nn.GroupNorm, _InstanceNorm)
"""Layers that take the mean out of each image's own values; among ones and absolute weights, nothing would be left."""


@torch.no_grad()
def linearised(module: nn.Module, sites: Sequence[str]) -> nn.Module:
    """A copy of a module as a linear one that only adds: an input of ones gives outputs of at least 0.

    It computes in float64, in evaluation mode. Weights have their absolute values, biases and running means are
    zero, sites and the layers of CENTRING do nothing.
    """
    linear = copy.deepcopy(module).double().eval()
    centring = [path for path, child in linear.named_modules() if isinstance(child, CENTRING)]
    for path in [*sites, *centring]:
        parent, _, name = path.rpartition(".")
        linear.get_submodule(parent).add_module(name, nn.Identity())
    for name, tensor in [*linear.named_parameters(), *linear.named_buffers()]:
        if name.rpartition(".")[2] in ("bias", "running_mean"):
            tensor.zero_()
        elif tensor.is_floating_point():  # a buffer may hold numbers or masks of its own
            tensor.abs_()
    return linear


@dataclass(frozen=True)
class Survey:
    """What masks leave of a network.

    Attributes:
        kept, of: by name of the weight, how many are left and how many there were.
        reached: number of outputs to which a path of weights that are left leads from the inputs.
        outputs: number of outputs.
    """

    kept: Mapping[str, int]
    of: Mapping[str, int]
    reached: int
    outputs: int

    @property
    def emptied(self) -> tuple[str, ...]:
        """The weights of which nothing is left."""
        return tuple(name for name, count in self.kept.items() if not count)

    @property
    def summary(self) -> str:
        """The survey in one line."""
        fewest = min(self.kept, key=lambda name: self.kept[name] / self.of[name])
        return (
            f"{sum(self.kept.values()):,} of {counted(sum(self.of.values()), 'weight')} are left, least in {fewest} "
            f"({self.kept[fewest]:,} of {self.of[fewest]:,}); {self._outputs}"
        )

    @property
    def warning(self) -> str | None:
        """One line that names the layers of which nothing is left; None where there are none."""
        if not self.emptied:
            return None
        return f"pruning has emptied {', '.join(self.emptied)}; {self._outputs}"

    @property
    def _outputs(self) -> str:
        return f"{self.reached} of {counted(self.outputs, 'output')} can still be reached from the inputs"


def survey(module: nn.Module, masks: Mapping[str, Tensor], example: Tensor, sites: Sequence[str] = ()) -> Survey:
    """Count the weights that masks leave, and the outputs that can be reached along them.

    Args:
        masks: of the module's prunable weights, by name; one that has none is whole.
        example: a batch (N, C, H, W) that the module accepts; it computes logits (N, classes).
        sites: names of the submodules that apply activations.
    """
    of = {name: weight.numel() for name, weight in prunable_weights(module).items()}
    outputs = reach(module, masks, example, sites).outputs
    return Survey(
        {name: int(masks[name].sum()) if name in masks else count for name, count in of.items()},
        of,
        int(outputs.sum()),
        outputs.numel(),
    )


class Reach(NamedTuple):
    """What a path of weights that are left leads to from the inputs; bool tensors.

    Attributes:
        channels: by name of the weight, the output channels (channels,) of its layer; of one that is used more than
            once, those that any use reaches.
        outputs: (classes,).
    """

    channels: Mapping[str, Tensor]
    outputs: Tensor


@torch.no_grad()
def reach(module: nn.Module, masks: Mapping[str, Tensor], example: Tensor, sites: Sequence[str] = ()) -> Reach:
    """What can be reached from the inputs; the arguments are those of :func:`survey`."""
    linear = linearised(module, sites)
    weights = prunable_weights(linear)
    channels = {name: torch.zeros(len(weight), dtype=torch.bool) for name, weight in weights.items()}
    for name, weight in weights.items():
        weight.copy_(masks[name] if name in masks else torch.ones_like(weight))

    def clamp(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        """Ones for what is reached, after every layer, so that no depth overflows or underflows."""
        ones = output > 0
        dimension = -1 if isinstance(layer, nn.Linear) else 1
        channels[name] |= ones.transpose(0, dimension).flatten(1).any(1)
        return ones.to(output.dtype)

    for path, child in linear.named_modules():
        if isinstance(child, PRUNABLE):
            name = f"{path}.weight" if path else "weight"
            child.register_forward_hook(lambda layer, _, output, name=name: clamp(name, layer, output))
    outputs = linear(torch.ones_like(example[:1], dtype=torch.float64))[0] > 0
    return Reach(channels, outputs)
