"""Images in memory: not more than it holds, resized, with the same channels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from safs_ray import machine
from safs_ray.config import counted, refusal
from safs_ray.data import Array

T = TypeVar("T", bound=np.generic)

COPIES = 3
"""A run holds its images in the driver, in Ray's object store, and shuffled in each process that trains."""

RESIZED_AT_A_TIME = 2**26
"""Values, as floats, that are resized at a time."""

COPIED_AT_A_TIME = 2**26
"""Bytes that are copied at a time, of what may be larger than memory."""

SMALLER, FEWER = "data.size=PIXELS makes them smaller", "data.limit=COUNT takes fewer"
"""What makes images take less memory; and what other inputs."""


def in_pieces(images: npt.NDArray[T]) -> Iterator[slice]:
    """Slices of images (N, C, H, W) to look at one after the other."""
    step = max(1, COPIED_AT_A_TIME // max(1, math.prod(images.shape[1:])))
    return (slice(begin, begin + step) for begin in range(0, len(images), step))


def require_memory(
    source: str, count: int, *shape: int, copies: int = COPIES, each: int = 1, way_out: str = ""
) -> None:
    """Refuse images (C, H, W), or inputs of another shape, that memory cannot hold so many times.

    Args:
        each: bytes of a value.
        way_out: what else helps, beside less of them.

    Raises:
        ConfigurationError: naming both sizes.
    """
    size, free = each * count * math.prod(shape), machine.free_memory()
    if copies * size > free:
        take = f"{'takes' if count == 1 else 'take'} {machine.readable(size)}"
        images = f"{counted(count, 'image' if len(shape) == 3 else 'input')} of {'x'.join(map(str, shape))} {take}"
        held = f"which a run holds {copies} times, and {machine.readable(free)} of memory are free"
        ways_out = [SMALLER] * (len(shape) == 3) + [FEWER] + [way_out] * bool(way_out)
        raise refusal("data.source", source, f"{images}, {held}; {', '.join(ways_out)}")


def channels_first(image: Array) -> Array:
    """An image (H, W) or (H, W, C) as (C, H, W)."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def widened(images: npt.NDArray[T], channels: int) -> npt.NDArray[T]:
    """Images (N, C, H, W), or one (C, H, W), with so many channels: gray ones get equal colours, alpha stays."""
    own = images.shape[-3]
    if own == channels:
        return images
    colours = [0] * (channels - own + 1)
    return np.take(images, [*colours, *range(1, own)], axis=-3)


def resized(images: Tensor, sides: tuple[int, int] | None, source: str) -> Tensor:
    """Images (N, C, H, W), uint8, of this height and width; as they are without them."""
    if sides is None or tuple(images.shape[2:]) == sides:
        return images
    count, channels = images.shape[:2]
    require_memory(source, count, channels, *sides)
    parts = [
        interpolate(part.float(), sides, mode="bilinear", antialias=True, align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in torch.split(images, max(1, RESIZED_AT_A_TIME // (channels * math.prod(sides))))
    ]
    return torch.cat(parts)


def one_line(error: BaseException) -> str:
    """What an error says, in at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
