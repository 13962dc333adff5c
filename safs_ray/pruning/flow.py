"""What can flow from the inputs to the outputs along the weights that are left, whatever the images."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from safs_ray.config import counted
from safs_ray.pruning.linear import Linear, without_sites
from safs_ray.pruning.masks import LAYERS, prunable_weights
from safs_ray.randomness import generator


@dataclass(frozen=True)
class Survey:
    """What masks leave of a network.

    Attributes:
        kept, of: by name of the weight, how many are left and how many there were.
        reached: number of outputs to which a path of weights that are left leads from the inputs; None where that
            is not known.
        outputs: number of outputs.
    """

    kept: Mapping[str, int]
    of: Mapping[str, int]
    reached: int | None
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
            f"({self.kept[fewest]:,} of {self.of[fewest]:,}); {self.reach}"
        )

    @property
    def warning(self) -> str | None:
        """One line that names the layers of which nothing is left; None where there are none."""
        if not self.emptied:
            return None
        return f"pruning has emptied {', '.join(self.emptied)}; {self.reach}"

    @property
    def reach(self) -> str:
        """How many outputs can be reached, in words."""
        if self.reached is None:
            return (
                f"how many of the {counted(self.outputs, 'output')} can still be reached from the inputs is not known"
            )
        return f"{self.reached} of {counted(self.outputs, 'output')} can still be reached from the inputs"


def survey(module: nn.Module, masks: Mapping[str, Tensor], example: Tensor, sites: Sequence[str] = ()) -> Survey:
    """Count the weights that masks leave, and the outputs that can be reached along them.

    Args:
        masks: of the module's prunable weights, by name; one that has none is whole.
        example: a batch (N, C, H, W) that the module accepts; it computes logits (N, classes).
        sites: names of the submodules that apply activations.
    """
    of = {name: weight.numel() for name, weight in prunable_weights(module).items()}
    kept = {name: int(masks[name].sum()) if name in masks else count for name, count in of.items()}
    outputs = reach(module, masks, example, sites).outputs
    if outputs is None:
        with torch.no_grad():
            return Survey(kept, of, None, copy.deepcopy(module).eval()(example).shape[1])
    return Survey(kept, of, int(outputs.sum()), len(outputs))


class Reach(NamedTuple):
    """What a path of weights that are left leads to from the inputs; bool tensors.

    Attributes:
        channels: by name of the weight, the output channels (channels,) of its layer; of one that is used more than
            once, those that any use reaches. A layer is missing where that is not known.
        outputs: (classes,), before a softmax at the end; None where that is not known.
    """

    channels: Mapping[str, Tensor]
    outputs: Tensor | None


UNKNOWN = Reach({}, None)


def reach(module: nn.Module, masks: Mapping[str, Tensor], example: Tensor, sites: Sequence[str] = ()) -> Reach:
    """What can be reached from the inputs; the arguments are those of :func:`survey`.

    It is not known of a network that does what has no derivative, such as choosing by indices, nor of one in which not
    even all weights together lead to every output.
    """
    try:
        derivatives = _derivatives(module, masks, example, sites)
        if derivatives.outputs is None or derivatives.outputs.all():
            return derivatives
        whole = _derivatives(module, {}, example, sites).outputs
        if any(isinstance(child, LOOKING_UP) for child in module.modules()):
            more = _derivatives(module, masks, example, sites, LOOKING_UP).outputs
            if more is None or not torch.equal(more, derivatives.outputs):
                return UNKNOWN
    except Exception:  # a user's network may fail where derivatives are taken
        return UNKNOWN
    return derivatives if whole is not None and whole.all() else UNKNOWN


LOOKING_UP = (nn.Embedding, nn.EmbeddingBag)
"""Layers that choose by indices: what they give depends on the inputs, perhaps, and has no derivative."""


@torch.no_grad()
def _derivatives(
    module: nn.Module,
    masks: Mapping[str, Tensor],
    example: Tensor,
    sites: Sequence[str],
    inputs: tuple[type[nn.Module], ...] = (),
) -> Reach:
    """What has a derivative by the inputs other than 0, as weights are drawn at random where masks keep them.

    The derivative is taken forwards, along one direction, beside the values. All are positive, so that none cancel,
    and drawn anew behind every layer, so that none vanish in a deep network: values that depend on the inputs from 1
    to 2, others at a half, below them, where a pooling takes the largest.

    Args:
        inputs: layers whose outputs are inputs, too.
    """
    draws = generator(0, "reach")
    straight = without_sites(module, sites)
    _draw_parameters(straight, masks, draws)
    names = {id(weight): name for name, weight in prunable_weights(straight).items()}
    channels: dict[str, Tensor] = {}
    biases: dict[nn.Module, nn.Parameter] = {}

    def renew(layer: nn.Module, output: Tensor) -> Tensor:
        value, derivative = _unpacked(output)
        if layer in biases:
            layer.bias = biases.pop(layer)
            value = value + layer.bias
        depends = torch.zeros_like(value, dtype=torch.bool) if derivative is None else derivative != 0
        name = names[id(layer.weight)]
        own = depends.transpose(0, -1 if isinstance(layer, nn.Linear) else 1).flatten(1).any(1)
        channels[name] = channels.get(name, torch.zeros_like(own)) | own
        fresh = torch.where(depends, _between(1, 2, value, draws), torch.where(value == 0, 0, 0.5))
        return _with_derivative(fresh, depends * _between(1, 2, value, draws))

    for child in straight.modules():
        if isinstance(child, LAYERS):
            child.register_forward_pre_hook(lambda layer, _: _take_bias(layer, biases))
            child.register_forward_hook(lambda layer, _, output: renew(layer, output))
        elif isinstance(child, inputs):
            child.register_forward_hook(lambda _layer, _, output: _with_derivative(output, torch.ones_like(output)))
    with _derivable(straight), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        images = _between(1, 2, example[: 1 if _takes_one(straight) else 2], draws)
        output = Linear(straight, normalises=True)(_with_derivative(images, _between(1, 2, images, draws)))
        value, derivative = _unpacked(output)
    known = derivative is not None and value.isfinite().all() and derivative.isfinite().all()
    return Reach(channels, (derivative != 0).any(0) if known and derivative is not None else None)


def _take_bias(layer: nn.Module, taken: dict[nn.Module, nn.Parameter]) -> None:
    """Leave the bias out of a linear layer's product, which torch would derive by a compiler loaded for it."""
    if type(layer) is nn.Linear and layer.bias is not None:
        taken[layer], layer.bias = layer.bias, None  # type: ignore[assignment]


def _with_derivative(value: Tensor, derivative: Tensor) -> Tensor:
    return cast(Tensor, forward_ad.make_dual(value, derivative))  # type: ignore[no-untyped-call]


def _unpacked(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """A value and its derivative; None where it has none."""
    return cast(tuple[Tensor, Tensor | None], forward_ad.unpack_dual(tensor))  # type: ignore[no-untyped-call]


@contextmanager
def _derivable(module: nn.Module) -> Iterator[None]:
    """Keep torch from recurrent kernels without derivatives, and from compiling those of rare functions for seconds."""
    before = os.environ.get("PYTORCH_JIT")
    os.environ["PYTORCH_JIT"] = "0"
    try:
        if any(isinstance(child, nn.RNNBase) for child in module.modules()):
            with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=False):
                yield
        else:
            yield
    finally:
        del os.environ["PYTORCH_JIT"]
        os.environ |= {} if before is None else {"PYTORCH_JIT": before}


def _takes_one(module: nn.Module) -> bool:
    """Whether a batch may be of one image: no layer goes by the statistics of the batch."""
    return all(child.track_running_stats for child in module.modules() if isinstance(child, _BatchNorm))


def _draw_parameters(module: nn.Module, masks: Mapping[str, Tensor], draws: torch.Generator) -> None:
    """Positive parameters, of prunable weights as large as keeps a layer's values about as they are."""
    weights = prunable_weights(module)
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.copy_(_between(0.5, 1.5, parameter, draws))
    for name, weight in weights.items():
        weight.div_(weight.numel() / len(weight)).mul_(masks.get(name, 1))
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.reset_running_stats()


def _between(least: float, most: float, like: Tensor, draws: torch.Generator) -> Tensor:
    """Numbers drawn from a range, of the shape and type of another tensor."""
    return least + (most - least) * torch.rand(like.shape, generator=draws, dtype=like.dtype)
