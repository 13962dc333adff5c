"""Networks, built with the activations their authors gave them, for images of any channel count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safs_ray.config import refusal
from safs_ray.models import inspection, own
from safs_ray.models.convolutional import efficientnet_b0, lenet5, mlp, resnet18, vgg16
from safs_ray.models.footprint import Footprint, footprint
from safs_ray.models.local_vit import localvit_t
from safs_ray.models.specification import Specification
from safs_ray.randomness import derive
from safs_ray.references import is_reference, resolve

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Footprint",
    "Specification",
    "build",
    "check",
    "check_extremes",
    "find",
    "footprint_of",
    "is_own",
    "origin",
    "outputs_of",
]


@dataclass(frozen=True)
class Architecture:
    """A row of the table of networks.

    Attributes:
        build: makes the module, drawing its initial weights from torch's global generator.
        exclude: patterns of the activations that are no sites unless ``model.exclude`` says otherwise.
    """

    build: Callable[[Specification], nn.Module]
    exclude: tuple[str, ...] = ()


SQUEEZE_EXCITATION = ("*.activation", "*.scale_activation")
"""The activations within torchvision's squeeze-excitation blocks: gates, not layers."""

ARCHITECTURES: dict[str, Architecture] = {
    "lenet5": Architecture(lenet5),
    "mlp": Architecture(mlp),
    "vgg16": Architecture(vgg16),
    "resnet18": Architecture(resnet18),
    "efficientnet_b0": Architecture(efficientnet_b0, SQUEEZE_EXCITATION),
    "localvit_t": Architecture(localvit_t, SQUEEZE_EXCITATION),
}


def find(name: str) -> Architecture:
    """The architecture of a name, or a user's own.

    Raises:
        ConfigurationError: no such architecture.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if is_reference(name):
        return Architecture(own.build)
    raise refusal("model.name", name, f"allowed: {', '.join(ARCHITECTURES)} or package.module:function")


def origin(name: str) -> object:
    """What makes the architecture of a name: equal as long as the same code does.

    Raises:
        ConfigurationError: no such architecture.
    """
    return ARCHITECTURES[name].build if name in ARCHITECTURES else resolve(name, "model.name")


def build(specification: Specification, seed: int) -> nn.Module:
    """The architecture with initial weights drawn from the seed; the global generator stays as it was.

    Raises:
        ConfigurationError: no such architecture, or images that it cannot take.

    Examples:
        >>> specification = Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,))
        >>> build(specification, seed=0)(specification.example()).shape
        torch.Size([2, 10])
    """
    architecture = find(specification.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "initial weights"))  # the CPU's alone
        return architecture.build(specification)


def check(specification: Specification, batches: Sequence[int] = (1, 2)) -> None:
    """Try a user's own network, so that one that cannot be used is refused before any work.

    Args:
        batches: how many images a batch has in evaluation.

    Raises:
        ConfigurationError: as :func:`safs_ray.models.inspection.check`.
    """
    if is_own(specification):
        inspection.check(specification, batches)


def check_extremes(specification: Specification, parts: Mapping[str, Tensor]) -> None:
    """Refuse inputs that a user's own network fails on.

    Args:
        parts: inputs (N, …) by what they are for.

    Raises:
        ConfigurationError: as :func:`safs_ray.models.inspection.check_extremes`.
    """
    inspection.check_extremes(specification, build(specification, seed=0), parts)


def outputs_of(specification: Specification) -> int:
    """How many numbers a network computes for an input, whatever the specification says.

    Raises:
        ConfigurationError: as :func:`safs_ray.models.inspection.outputs_of`.
    """
    return inspection.outputs_of(specification, build(specification, seed=0))


def is_own(specification: Specification) -> bool:
    """Whether the network is a user's."""
    return specification.model not in ARCHITECTURES


def footprint_of(specification: Specification) -> Footprint:
    """What training the network takes; of the table's networks, where they are large, without building them.

    Raises:
        ConfigurationError: as :func:`build`.
    """
    with torch.random.fork_rng(devices=[]), torch.device(_device_to_measure_on(specification)):
        return footprint(build(specification, seed=0), specification.example())


LARGE = 2**26, 2**18
"""Weights of a network, and numbers of an image, above which a pass over two images takes much time or memory."""


def _device_to_measure_on(specification: Specification) -> str:
    """Torch's meta device, which takes no memory, for what is large: a first pass there loads a compiler, for a second.

    Never for a user's own function, which need not know of it.
    """
    if specification.model not in ARCHITECTURES:
        return "cpu"
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build(specification, seed=0).parameters())
    return "meta" if weights > LARGE[0] or math.prod(specification.shape) > LARGE[1] else "cpu"
