"""A user's own data: what ``package.module:function`` returns."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from safs_ray.config import refusal
from safs_ray.data import Array
from safs_ray.references import resolve
from safs_ray.sources.images import one_line, require_memory
from safs_ray.sources.part import Indices, Part

RETURNED = ("train_images", "train_labels", "test_images", "test_labels")


def own(name: str) -> tuple[Part, Part]:
    """The images and labels that the user's function returns, called without arguments.

    It returns train_images, train_labels, test_images and test_labels as tensors or arrays: images (N, C, H, W),
    uint8, and labels (N,), integers from 0.

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
    train, test = (_part(arrays, part, name) for part in ("train", "test"))
    channels = arrays["train_images"].shape[1], arrays["test_images"].shape[1]
    if channels[0] != channels[1]:
        raise refusal("data.source", name, f"train_images have {channels[0]} channels, test_images {channels[1]}")
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


def _part(arrays: dict[str, Array], part: str, name: str) -> Part:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        wanted = "must be uint8 of shape (N, C, H, W)"
        raise refusal("data.source", name, f"{part}_images {wanted}, are {images.dtype} of shape {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        wanted = f"must be integers of shape {images.shape[:1]}"
        raise refusal("data.source", name, f"{part}_labels {wanted}, are {labels.dtype} of shape {labels.shape}")

    def read(chosen: Indices) -> Array:
        require_memory(name, len(chosen), *images.shape[1:])  # an array may be a view of far fewer values
        return np.ascontiguousarray(images if len(chosen) == len(images) else images[chosen])

    return Part(labels, read)


def _kind(value: object) -> str:
    return type(value).__name__
