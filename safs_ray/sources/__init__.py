"""Where images come from: a source's name to a :class:`~safs_ray.data.Dataset`.

A source is first two parts, training and test images that may not be read yet, so that a limit and the size of the
memory hold for all sources alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from safs_ray.config import ConfigurationError, DataSection, refusal
from safs_ray.data import Array, Dataset, Examples, as_tensors
from safs_ray.references import is_reference
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.folders import imagefolder
from safs_ray.sources.imagenet16 import CLASSES, imagenet16
from safs_ray.sources.images import resized, widened
from safs_ray.sources.named import TORCHVISION, digits, torchvision
from safs_ray.sources.own import own
from safs_ray.sources.part import Part
from safs_ray.sources.repeats import warn_of_repeats
from safs_ray.sources.tables import parquet

FOLDERS: dict[str, Callable[[Path, Decoder], tuple[Part, Part]]] = {
    "parquet": parquet,
    "imagefolder": imagefolder,
}
"""What reads the image files of a folder."""

DIGITS_SIZE = 28
"""Pixels to which the digits are enlarged where no size is given."""


def load(section: DataSection) -> Dataset:
    """Read the source that the configuration names.

    Raises:
        ConfigurationError: no such source, missing or damaged files, images that do not fit together, or more of them
            than memory holds.

    Examples:
        >>> dataset = load(DataSection(source="digits", size=8, limit=100))
        >>> dataset.pool.inputs.shape, dataset.classes
        (torch.Size([100, 1, 8, 8]), 10)
    """
    parts = _parts(section)
    classes = _classes(section.source, *parts)
    train, test = (part.sample(section.limit) for part in parts)
    for name, part in (("training", train), ("test", test)):
        if len(part) < 2:
            raise refusal("data.source", section.source, f"needs at least two {name} images, has {len(part)}")
    _check_trained(section.source, *parts)
    dataset = _dataset(section, train, test, classes)
    warn_of_repeats(dataset, section.source)
    return dataset


def _parts(section: DataSection) -> tuple[Part, Part]:
    kind, _, argument = section.source.partition(":")
    downsampled = re.fullmatch(r"imagenet16(?:-(\d{1,6}))?", kind) if argument else None
    files = bool(argument) and kind in FOLDERS
    function = is_reference(section.source) and not (files or downsampled)
    if section.alpha != "white" and not files:
        raise refusal("data.alpha", section.alpha, f"is for image files, those of {' and '.join(FOLDERS)}, alone")
    if section.layout != "NCHW" and not function:
        raise refusal("data.layout", section.layout, "is for images that your own package.module:function returns")
    if section.source == "digits":
        return digits()
    if section.source in TORCHVISION:
        return torchvision(section)
    if files:
        return FOLDERS[kind](Path(argument), Decoder(section.source, section.size, section.alpha))
    if downsampled:
        return imagenet16(Path(argument), int(downsampled[1] or CLASSES))
    if function:
        return own(section.source, section.layout)
    known = ["digits", *TORCHVISION, *(f"{name}:FOLDER" for name in FOLDERS)]
    others = "imagenet16:FOLDER, imagenet16-CLASSES:FOLDER or package.module:function"
    raise refusal("data.source", section.source, f"allowed: {', '.join(known)}, {others}")


def _classes(source: str, *parts: Part) -> int:
    """One more than the highest label; at least 2."""
    labels = np.concatenate([part.labels for part in parts])
    if len(labels) == 0:
        return 0
    lowest, highest = labels.min(), labels.max()
    if lowest < 0 or highest >= max(1000, len(labels)):
        wrong = lowest if lowest < 0 else highest
        raise refusal("data.source", source, f"labels must be 0, 1, …, one for each class; found {wrong}")
    if lowest == highest:
        raise refusal("data.source", source, f"needs images of at least two classes, has those of class {lowest}")
    return int(highest) + 1


def _check_trained(source: str, train: Part, test: Part) -> None:
    """Refuse test images of a class that no network has seen."""
    if lacking := set(test.labels.tolist()) - set(train.labels.tolist()):
        raise refusal("data.source", source, f"has test images of class {min(lacking)}, but no training images of it")


def _dataset(section: DataSection, train: Part, test: Part, classes: int) -> Dataset:
    """Read the images and bring them to one size and the same channels."""
    images = train.images(), test.images()
    channels = max(part.shape[1] for part in images)
    size = section.size or (DIGITS_SIZE if section.source == "digits" else None)
    pool, tests = (
        _examples(widened(part, channels), labels, size, section.source)
        for part, labels in zip(images, (train.labels, test.labels), strict=True)
    )
    if pool.inputs.shape[1:] != tests.inputs.shape[1:] or pool.inputs.shape[2] != pool.inputs.shape[3]:
        shapes = f"{tuple(pool.inputs.shape[1:])} and {tuple(tests.inputs.shape[1:])}"
        raise ConfigurationError(
            f"data.size: training and test images of shapes {shapes} are not squares of one size; "
            "data.size=PIXELS resizes all"
        )
    return Dataset(pool, tests, classes, train.names)


def _examples(images: Array, labels: Array, size: int | None, source: str) -> Examples:
    tensor = as_tensors({"images": images})["images"]
    return Examples(resized(tensor, size, source), torch.from_numpy(labels.astype(np.int64)))
