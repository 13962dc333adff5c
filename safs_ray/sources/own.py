"""A user's own data: what ``package.module:function`` returns."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from torch import Tensor

from safs_ray.config import counted, refusal
from safs_ray.data import Array
from safs_ray.references import resolve
from safs_ray.sources.images import one_line, require_memory
from safs_ray.sources.part import Indices, Part

Layout = Literal["NCHW", "NHWC"]

MOST_CHANNELS = 4
"""Of images as people have them: gray or in colour, with or without alpha."""

RETURNED = ("train_images", "train_labels", "test_images", "test_labels")


def own(name: str, layout: Layout = "NCHW") -> tuple[Part, Part]:
    """The images and labels that the user's function returns, called without arguments.

    It returns train_images, train_labels, test_images and test_labels as tensors or arrays: images (N, C, H, W), or
    (N, H, W, C) with layout NHWC, uint8, and labels (N,), integers from 0.

    Raises:
        ConfigurationError: there is no such function, it fails, or it returns something else.
    """
    function = resolve(name, "data.source")
    try:
        returned = function()
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise refusal("data.source", name, f"fails ({type(error).__name__}: {one_line(error)})") from None
    if not isinstance(returned, tuple | list) or len(returned) != len(RETURNED):
        length = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise refusal("data.source", name, f"must return ({', '.join(RETURNED)}), returns a {_kind(returned)}{length}")
    arrays = {part: _array(value, part, name) for part, value in zip(RETURNED, returned, strict=True)}
    train, test = (_part(arrays, part, name, layout) for part in ("train", "test"))
    channels = [arrays[f"{part}_images"].shape[layout.index("C")] for part in ("train", "test")]
    if channels[0] != channels[1]:
        have = f"train_images have {counted(channels[0], 'channel')}"
        raise refusal("data.source", name, f"{have}, test_images {channels[1]}")
    return train, test


def _array(value: Any, part: str, name: str) -> Array:
    try:
        if isinstance(value, Tensor):
            return value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            return np.asarray(value)
    except Exception as error:  # numpy has no sparse, quantised or meta tensors, nor bfloat16
        raise refusal("data.source", name, f"{part} cannot be read ({one_line(error)})") from None
    raise refusal("data.source", name, f"{part} must be a tensor or an array, is a {_kind(value)}")


def _part(arrays: dict[str, Array], part: str, name: str, layout: Layout) -> Part:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    _check_images(images, f"{part}_images", name, layout)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        wanted = f"must be integers of shape {images.shape[:1]}"
        raise refusal("data.source", name, f"{part}_labels {wanted}, are {labels.dtype} of shape {labels.shape}")

    images = images.transpose([layout.index(dimension) for dimension in "NCHW"])

    def read(chosen: Indices) -> Array:
        require_memory(name, len(chosen), *images.shape[1:])  # an array may be a view of far fewer values
        return np.ascontiguousarray(images if len(chosen) == len(images) else images[chosen])

    return Part(labels, read)


def _check_images(images: Array, part: str, name: str, layout: Layout) -> None:
    """Refuse what are no images of this layout, with what to return instead where that can be told."""
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        wanted = f"{part} must be uint8 of shape ({', '.join(layout)})"
        hint = _as_bytes(images, part) or _with_channels(images, part, layout)
        raise refusal("data.source", name, f"{wanted}, are {images.dtype} of shape {images.shape}{hint}")
    other: Layout = "NHWC" if layout == "NCHW" else "NCHW"
    if images.shape[layout.index("C")] > MOST_CHANNELS and _likeness(images, other) > _likeness(images, layout):
        seem = f"{part} of shape {images.shape} seem to be ({', '.join(other)})"
        raise refusal("data.source", name, f"{seem}, not ({', '.join(layout)}); data.layout={other} takes them so")


def _likeness(images: Array, layout: Layout) -> tuple[bool, bool]:
    """Whether images of this layout would be squares, and whether they would have as few channels as most have."""
    channels, height, width = (images.shape[layout.index(dimension)] for dimension in "CHW")
    return height == width, channels <= MOST_CHANNELS


def _as_bytes(images: Array, part: str) -> str:
    """How to make bytes of images of another type."""
    if images.dtype == np.uint8 or images.dtype.kind not in "fiub" or not images.size:
        return ""
    least, most = images.min(), images.max()
    if images.dtype.kind == "b" or (images.dtype.kind == "f" and least >= 0 and most <= 1):
        change = f"({part} * 255).round() as uint8"
    elif least >= 0 and most <= 255:
        change = f"{part}.round() as uint8" if images.dtype.kind == "f" else f"{part} as uint8"
    else:
        change = "them scaled to 0 to 255 as uint8, training and test images alike"
    return f" with values from {least:.6g} to {most:.6g}; return {change}"


def _with_channels(images: Array, part: str, layout: Layout) -> str:
    """How to give gray images their one channel."""
    if images.ndim != 3:
        return ""
    return f"; if they are gray, return {part}{'[:, None]' if layout == 'NCHW' else '[..., None]'}"


def _kind(value: object) -> str:
    return type(value).__name__
