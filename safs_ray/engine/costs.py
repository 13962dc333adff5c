"""What ways to compute a network are expected to cost, so that each batch goes the cheapest.

Times are those of one core of a processor with AVX-512, as ``benchmarks/inference.py`` measures them; the choice needs
their ratios alone. They are constants: the same batch is computed with the same bits every time and everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from safs_ray.engine.kernels import LANES
from safs_ray.engine.passes import Foreign, Pass, Passes, Value, Weigh
from safs_ray.network import Network
from safs_ray.sparse.graph import Affine, Step

CALL, VECTOR, SINGLE, NUMBER, TORCH = 10e3, 1.2, 0.5, 0.5, 20e3
"""Nanoseconds of the engine: a call, a term of a vector of pixels, a term of a single pixel, a number that is written
otherwise, and a step that torch does."""

LAYER, WEIGHT, PRODUCT, NEURON = 15e3, 0.025, 0.02, 1.0
"""Nanoseconds of torch: a layer, a product of one image alone that many images save, a product, a neuron."""

BLOCK, BLOCK_CALL, BLOCK_TERM = 32, 100e3, 3.2
"""Images of a block, and nanoseconds of training's way to compute blocks: a call, and a term of single pixels."""


class Cost(NamedTuple):
    """Nanoseconds of a call: once, and for each block of so many images."""

    call: float
    block: float
    images: int = 1

    def of(self, images: int) -> float:
        """The nanoseconds of a batch."""
        return self.call + math.ceil(images / self.images) * self.block

    def always_above(self, other: Cost) -> bool:
        """Whether no batch costs less than by another way, which goes image by image."""
        return self.call >= other.call and self.block >= other.block * self.images


def of_engine(passes: Passes) -> Cost:
    """One image after the other, by the engine."""
    return Cost(CALL, sum(_of_pass(each, passes.values) for each in passes.passes))


def _of_pass(one: Pass, values: Sequence[Value]) -> float:
    out = values[one.out]
    match one:
        case Weigh(terms=terms):
            term = SINGLE if out.pixels == 1 else VECTOR * math.ceil(out.pixels / LANES)
            return len(terms) * term + out.channels * out.pixels * NUMBER
        case Foreign():
            return TORCH
    return out.channels * out.pixels * NUMBER


def of_torch(network: Network, steps: Sequence[Step]) -> Cost:
    """All weights, zeros included."""
    products = sum(
        step.pixels * network.state[f"{step.operation.owner}.weight"].numel()
        for step in steps
        if isinstance(step.operation, Affine)
    )
    neurons = sum(step.neurons for step in steps)
    return Cost(LAYER * len(steps) + WEIGHT * products, PRODUCT * products + NEURON * neurons)


def of_blocks(passes: Passes) -> Cost | None:
    """Blocks of images, as training computes them; None for networks of planes, which gain nothing."""
    sums = [each for each in passes.passes if isinstance(each, Weigh)]
    if len(sums) + 1 < len(passes.passes) or any(passes.values[each.out].pixels > 1 for each in sums):
        return None
    return Cost(BLOCK_CALL, BLOCK_TERM * sum(len(each.terms) for each in sums), BLOCK)
