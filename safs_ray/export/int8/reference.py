"""What a network in 8-bit integers gives: the definition that every program of it must equal, bit by bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from safs_ray.engine.passes import Value
from safs_ray.export.int8 import planes
from safs_ray.export.int8.integers import (
    LEAST,
    LOGIT_BITS,
    PIXEL_BITS,
    IntegerPass,
    IntegerProgram,
    Largest,
    Logits,
    Means,
    Part,
    Pixels,
    Products,
    Sums,
    Whole,
    geometry,
)
from safs_ray.export.int8.planes import Planes, Values


def run(program: IntegerProgram, images: Tensor) -> Tensor:
    """The logits (N, classes), int32, of uint8 images (N, C, H, W)."""
    values = Values()
    for one in program.passes:
        out = geometry(one).out
        values.put(out, done(one, program.values[out], values, images), program.around[out])
    return torch.from_numpy(values[program.logits][:, 0, 0].T.astype(np.int32))


def done(one: IntegerPass, value: Value, values: Values, images: Tensor) -> Planes:
    """The numbers that a pass writes to a value.

    Args:
        values: those that were written before.
        images: uint8 (N, C, H, W).
    """
    size = value.height, value.width
    match one:
        case Pixels(_, factor, summands):
            pixels = images.permute(1, 2, 3, 0).numpy().astype(np.int64)
            rounded = (pixels * factor + (1 << (PIXEL_BITS - 1))) >> PIXEL_BITS
            return np.asarray(rounded + np.reshape(summands, (-1, 1, 1, 1)) + LEAST)
        case Sums(weigh, factors, parts):
            sums = planes.sums(values, weigh, *size, len(images), np.int64)
            return np.concatenate([_numbers(sums[own.first : own.end], factors, own) for own in parts])
        case Logits(weigh, factors):
            scaled = planes.sums(values, weigh, *size, len(images), np.int64) * factors[:, None, None, None]
            return np.asarray(np.sign(scaled) * (np.abs(scaled) >> LOGIT_BITS))
        case Products(scale, zeros, factor, levelling):
            return levelling(planes.products(values, scale, zeros), np.array(factor)) + LEAST
        case Largest(windows):
            return planes.largest(values, windows, *size)
        case Means(windows, zero, factors, levelling):
            totals = planes.totals(values, windows, *size, zero)
            return levelling(totals, factors.reshape(*size, 1)) + LEAST


def _numbers(sums: Planes, factors: Whole, part: Part) -> Planes:
    """The numbers of the channels of a part."""
    levels = part.levelling(sums, factors[part.first : part.end, None, None, None])
    return levels + LEAST if part.table is None else part.table[levels]
