"""A network as C that computes with 8-bit integers, quantised by images after training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from safs_ray.config import refusal
from safs_ray.engine.passes import Passes
from safs_ray.export.c import integer_writing, writing
from safs_ray.export.formats import Files
from safs_ray.export.int8 import reference
from safs_ray.export.int8.integers import IntegerProgram
from safs_ray.export.int8.quantisation import quantised
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import generator

RANGE_IMAGES, RANGE_NUMBERS = 256, 2**22
"""Images that ranges are taken from at most, fewer where the largest value of all has more numbers; 16 at least."""


class Quantised(NamedTuple):
    """A network in 8-bit integers.

    Attributes:
        images: those that the ranges of its values were taken from.
    """

    program: IntegerProgram
    files: Files
    images: Tensor

    def defined(self, images: Tensor) -> Tensor:
        """The logits that it has by its definition."""
        return reference.run(self.program, images) * self.program.unit


def write(network: Network, images: Tensor) -> Quantised:
    """The files ``network.c`` and ``network.h``.

    Args:
        images: uint8 (N, C, H, W), such as the network is to classify; some of them are taken.

    Raises:
        ConfigurationError: it takes other inputs than images, or gives other outputs than logits, or these are not the
            images that it takes, or none.
        Exception: of any kind, for a network that C cannot express.
    """
    specification = network.specification
    _check(specification, images)
    passes = writing.passes_of(network)
    chosen = _some(images, passes)
    program = quantised(passes, specification, chosen)
    return Quantised(program, integer_writing.write(program, specification), chosen)


def _check(specification: Specification, images: Tensor) -> None:
    """Refuse what a network of 8-bit integers does not take.

    Raises:
        ConfigurationError: they are not the images that the network takes, or none, or it takes or gives no such thing.
    """
    if not specification.is_of_images or specification.target_mean:
        what = f"{specification.kind} ({', '.join(map(str, specification.shape))})"
        gives = "values" if specification.target_mean else "logits"
        raise refusal("format", "c", f"has 8-bit integers from images to logits alone; this makes {gives} of {what}")
    try:
        specification.rows(images)
    except ValueError as error:
        raise refusal("images", str(tuple(images.shape)), str(error)) from None
    if not len(images):
        raise refusal("images", "", "there must be at least one, to take ranges from")


def _some(images: Tensor, passes: Passes) -> Tensor:
    """So many images that the values of a layer fit into little memory, drawn the same way every time."""
    largest = max(value.channels * value.pixels for value in passes.values)
    count = max(16, min(RANGE_IMAGES, RANGE_NUMBERS // largest))
    return images[torch.randperm(len(images), generator=generator(0, "ranges"))[:count]]
