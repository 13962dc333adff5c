"""Images: decoded from files, resized, and not more of them than memory holds."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from safs_ray import machine
from safs_ray.config import refusal
from safs_ray.data import Array

COPIES = 3
"""A run holds its images in the driver, in Ray's object store, and shuffled in each process that trains."""

RESIZED_AT_A_TIME = 2**26
"""Values, as floats, that are resized at a time."""


def require_memory(source: str, count: int, *shape: int) -> None:
    """Refuse images (C, H, W), of one byte for each value, that memory cannot hold.

    Raises:
        ConfigurationError: naming both sizes.
    """
    size, free = count * math.prod(shape), machine.free_memory()
    if COPIES * size > free:
        images = f"{count:,} images of {'x'.join(map(str, shape))} take {machine.readable(size)}"
        held = f"which a run holds {COPIES} times, and {machine.readable(free)} of memory are free"
        way_out = "data.size=PIXELS makes them smaller, data.limit=COUNT takes fewer"
        raise refusal("data.source", source, f"{images}, {held}; {way_out}")


def decoded(files: Iterable[tuple[str, str | io.BytesIO]], count: int, size: int | None, source: str) -> Array:
    """Decode ``count`` image files to (N, C, H, W); grayscale only when all are, resized when a size is given.

    Args:
        files: the name that an error gives to an image, and its path or content.

    Raises:
        ConfigurationError: a file that is no image or has more pixels than Pillow trusts, images of several sizes, or
            more of them than memory holds.
    """
    with warnings.catch_warnings(action="ignore"):  # of what does not keep Pillow from reading an image
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _stacked(((name, _opened(name, file, size, source)) for name, file in files), count, source)


def _stacked(images: Iterable[tuple[str, Image.Image]], count: int, source: str) -> Array:
    pixels = np.zeros((0, 1, 0, 0), np.uint8)
    for row, (name, image) in enumerate(images):
        channels = max(len(image.getbands()), pixels.shape[1])
        if row == 0:
            require_memory(source, count, channels, image.height, image.width)
            pixels = np.empty((count, channels, image.height, image.width), np.uint8)
        elif channels > pixels.shape[1]:  # all were gray until now
            require_memory(source, count, channels, *pixels.shape[2:])
            pixels = np.repeat(pixels, channels, axis=1)
        if (image.height, image.width) != pixels.shape[2:]:
            sizes = f"{name} has {image.size} pixels and the first image {(pixels.shape[3], pixels.shape[2])}"
            raise refusal("data.source", source, f"{sizes}; data.size=PIXELS resizes all")
        pixels[row] = np.asarray(image) if image.mode == "L" else np.asarray(image).transpose(2, 0, 1)
    return pixels


def _opened(name: str, file: str | io.BytesIO, size: int | None, source: str) -> Image.Image:
    """The image, gray or in colour, resized when a size is given."""
    try:
        with Image.open(file, formats=_formats()) as opened:
            if opened.mode.startswith("I;16"):  # Pillow would clip 16 bits, not scale them
                image = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
            else:
                image = opened.convert("L" if opened.mode in ("1", "L") else "RGB")
        return image.resize((size, size), Image.Resampling.BILINEAR) if size else image
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        raise refusal("data.source", source, f"{name} is not an image ({one_line(error).split(' <')[0]})") from None


@cache
def _formats() -> list[str]:
    """All that Pillow reads by itself: it hands EPS, which is a program, to Ghostscript."""
    Image.init()
    return [kind for kind in Image.ID if kind != "EPS"]


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
