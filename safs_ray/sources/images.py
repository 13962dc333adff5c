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

SMALLER = "data.size=PIXELS makes them smaller, data.limit=COUNT takes fewer"
"""What makes images take less memory."""


def in_pieces(images: npt.NDArray[T]) -> Iterator[slice]:
    """Slices of images (N, C, H, W) to look at one after the other."""
    step = max(1, COPIED_AT_A_TIME // max(1, math.prod(images.shape[1:])))
    return (slice(begin, begin + step) for begin in range(0, len(images), step))


def require_memory(source: str, count: int, *shape: int, copies: int = COPIES, way_out: str = SMALLER) -> None:
    """Refuse images (C, H, W), of one byte for each value, that memory cannot hold so many times.

    Raises:
        ConfigurationError: naming both sizes.
    """
    size, free = count * math.prod(shape), machine.free_memory()
    if copies * size > free:
        take = f"{'takes' if count == 1 else 'take'} {machine.readable(size)}"
        images = f"{counted(count, 'image')} of {'x'.join(map(str, shape))} {take}"
        held = f"which a run holds {copies} times, and {machine.readable(free)} of memory are free"
        raise refusal("data.source", source, f"{images}, {held}; {way_out}")


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


def resized(images: Tensor, size: int | None, source: str) -> Tensor:
    """Images (N, C, H, W), uint8, with both sides ``size`` pixels long; as they are without one."""
    if size is None or (images.shape[2], images.shape[3]) == (size, size):
        return images
    count, channels = images.shape[:2]
    require_memory(source, count, channels, size, size)
    parts = [
        interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in torch.split(images, max(1, RESIZED_AT_A_TIME // (channels * size**2)))
    ]
    return torch.cat(parts)


def one_line(error: BaseException) -> str:
    """What an error says, in at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
