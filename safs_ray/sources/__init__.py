"""Where images come from: a source's name to a :class:`~safs_ray.data.Dataset`.

A source is first two parts, training and test images that may not be read yet, so that a limit and the size of the
memory hold for all sources alike.
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safs_ray import machine
from safs_ray.config import ConfigurationError, DataSection, refusal
from safs_ray.data import Array, Dataset, Examples, as_tensors
from safs_ray.mapped import MappedRows
from safs_ray.references import is_reference
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.folders import imagefolder
from safs_ray.sources.imagenet16 import CLASSES, imagenet16
from safs_ray.sources.images import resized, widened
from safs_ray.sources.mapping import PARTS, Pixels, Store, fingerprint
from safs_ray.sources.named import TORCHVISION, digits, torchvision
from safs_ray.sources.numbers import table
from safs_ray.sources.own import npz, own
from safs_ray.sources.part import Part
from safs_ray.sources.repeats import warn_of_repeats
from safs_ray.sources.tables import parquet
from safs_ray.sources.unlabelled import unlabelled

FOLDERS = ("parquet", "imagefolder")
"""Kinds of sources that are the image files of a folder."""

ARRAYS: dict[str, Callable[[Path, DataSection], tuple[Part, Part]]] = {"table": table, "npz": npz}
"""What reads files of numbers."""

OWN = "your own package.module:function"

DIGITS_SIZE = 28, 28
"""Pixels to which the digits are enlarged where no size is given."""


def load(section: DataSection, beside: Path | None = None) -> Dataset:
    """Read the source that the configuration names.

    Args:
        beside: folder of this machine for the files of ``data.memory=map``; by default where a user's programs keep
            what they would find again.

    Raises:
        ConfigurationError: no such source, missing or damaged files, images that do not fit together, or more of them
            than memory, or the disk, holds.

    Examples:
        >>> dataset = load(DataSection(source="digits", size=8, limit=100))
        >>> dataset.pool.inputs.shape, dataset.outputs
        (torch.Size([100, 1, 8, 8]), 10)
    """
    if section.unlabelled:
        return unlabelled(section)
    store = _store(section, beside)
    whole = _parts(section, store)
    outputs = _outputs(section, *whole)
    train, test = (part.sample(section.limit) for part in whole)
    for name, part in (("training", train), ("test", test)):
        if len(part) < 2:
            raise refusal("data.source", section.source, f"needs at least two {name} images, has {len(part)}")
    if section.task == "classification":
        _check_trained(section.source, *whole)
    names = train.names[:outputs]
    inputs = _mapped(section, train, test, names, store) if store else _held(section, train, test, names)
    labels = (torch.from_numpy(_as_targets(part.labels)) for part in (train, test))
    pool, tests = (Examples(*pair) for pair in zip(inputs, labels, strict=True))
    return Dataset(pool, tests, outputs, names)


def _store(section: DataSection, beside: Path | None) -> Store | None:
    """What keeps decoded images in files, where that is asked for."""
    if section.memory == "hold":
        return None
    return Store(beside or (machine.cache_folder() or Path(tempfile.gettempdir())) / "images", section.source)


def _parts(section: DataSection, store: Store | None) -> tuple[Part, Part]:
    kind, _, argument = section.source.partition(":")
    downsampled = re.fullmatch(r"imagenet16(?:-(\d{1,6}))?", kind) if argument else None
    files = bool(argument) and kind in FOLDERS
    arrays = bool(argument) and kind in ARRAYS
    function = is_reference(section.source) and not (files or downsampled or arrays)
    _check_keys(section, kind if argument else "", arrays or function)
    if section.source == "digits":
        return digits()
    if section.source in TORCHVISION:
        return torchvision(section)
    if files:
        decoder = Decoder(section.source, section.sides, section.alpha, store.room if store else None)
        if kind == "parquet":
            return parquet(Path(argument), decoder, section.image_column, section.label_column)
        return imagefolder(Path(argument), decoder)
    if downsampled:
        return imagenet16(Path(argument), int(downsampled[1] or CLASSES))
    if arrays:
        return ARRAYS[kind](Path(argument), section)
    if function:
        return own(section)
    known = ["digits", *TORCHVISION, *(f"{name}:FOLDER" for name in FOLDERS)]
    others = "imagenet16:FOLDER, imagenet16-CLASSES:FOLDER, table:FOLDER, npz:FILE or package.module:function"
    raise refusal("data.source", section.source, f"allowed: {', '.join(known)}, {others}")


def _check_keys(section: DataSection, kind: str, arrays: bool) -> None:
    """Refuse keys that are for other sources.

    Args:
        kind: of files that the source is; empty for others.
        arrays: whether it is arrays or tables of any kind of number.
    """
    for key, value, default in (("alpha", section.alpha, "white"), ("memory", section.memory, "hold")):
        if value != default and kind not in FOLDERS:
            raise refusal(f"data.{key}", value, f"is for image files, those of {' and '.join(FOLDERS)}, alone")
    if section.layout == "NHWC" and (not arrays or kind == "table"):  # NCHW stands in configurations of before
        raise refusal("data.layout", section.layout, f"is for images that {OWN} returns, or npz:FILE holds")
    if section.image_column and kind != "parquet":
        raise refusal("data.image_column", section.image_column, "is for tables of images, parquet:FOLDER, alone")
    if section.label_column and kind not in ("parquet", "table"):
        tables = "is for tables, those of parquet:FOLDER and table:FOLDER, alone"
        raise refusal("data.label_column", section.label_column, tables)
    if section.task != "classification" and not arrays:
        raise refusal("data.task", section.task, f"takes table:FOLDER, npz:FILE or {OWN}; {section.source} has classes")


def _outputs(section: DataSection, train: Part, test: Part) -> int:
    """How many numbers a network computes: of classes, one more than the highest label."""
    if section.task == "classification":
        return _classes(section.source, train, test)
    columns = [part.labels.shape[1] for part in (train, test)]
    if columns[0] != columns[1]:
        raise refusal(
            "data.source", section.source, f"train_labels have {columns[0]} columns, test_labels {columns[1]}"
        )
    return int(columns[0])


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
    if lowest > 0:
        reason = f"labels must be 0, 1, …, one for each class; these are {lowest} to {highest}: subtract {lowest}"
        raise refusal("data.source", source, reason)
    return int(highest) + 1


def _check_trained(source: str, train: Part, test: Part) -> None:
    """Refuse test images of a class that no network has seen."""
    if lacking := set(test.labels.tolist()) - set(train.labels.tolist()):
        raise refusal("data.source", source, f"has test images of class {min(lacking)}, but no training images of it")


def _held(section: DataSection, train: Part, test: Part, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The inputs in memory, images of one size and with the same channels."""
    inputs = train.images(), test.images()
    if inputs[0].ndim == 4 and inputs[0].dtype == np.uint8:
        first, second = _alike(section, *inputs)
    else:
        _check_plain(section, inputs[0])
        first, second = as_tensors(dict(zip(PARTS, inputs, strict=True))).values()
    if train.labels.ndim == 1:
        warn_of_repeats(first.numpy(), train.labels, names, section.source)
    return first, second


def _mapped(section: DataSection, train: Part, test: Part, names: Sequence[str], store: Store) -> tuple[Tensor, Tensor]:
    """The images, with the same channels, in files that any process of this machine opens; decoded if they are not."""
    key = fingerprint(section, train, test, moments=True)
    counts = len(train), len(test)
    if not store.holds(key, *counts):
        store.make(key, train, test)
        warn_of_repeats(store.images(key, "train"), train.labels, names, section.source)
    content = fingerprint(section, train, test, moments=False)
    kind, _, folder = section.source.partition(":")
    there = section.model_copy(update={"source": f"{kind}:{Path(folder).absolute()}"})
    first, second = (
        MappedRows.of(partial(_reopened, there, store.folder, key, content, counts, part)) for part in PARTS
    )
    _check_sizes(first, second)
    return first, second


def _reopened(section: DataSection, folder: Path, key: str, content: str, counts: tuple[int, int], part: str) -> Pixels:
    """A part of a set of a key, on whatever machine this is; decoded where that has not been done.

    Args:
        content: the fingerprint of what it is to hold.
        counts: how many images it has to train on, and to test with.

    Raises:
        ConfigurationError: the source is not there, or has other images.
    """
    store = Store(folder, section.source)
    if not store.holds(key, *counts):
        train, test = (part.sample(section.limit) for part in _parts(section, store))
        if fingerprint(section, train, test, moments=False) != content:
            host = f"holds other images on {socket.gethostname()} than where the run was started"
            raise refusal("data.source", section.source, f"{host}; data.memory=map reads it on every machine")
        store.make(key, train, test)
    return store.images(key, part)


def _as_targets(labels: Array) -> Array:
    """Classes as int64, (N,); values, (N, outputs), as they are."""
    return labels.astype(np.int64) if labels.ndim == 1 else labels


def _alike(section: DataSection, *images: Array) -> tuple[Tensor, Tensor]:
    """Images of one size with the same channels.

    Raises:
        ConfigurationError: they have several sizes.
    """
    channels = max(part.shape[1] for part in images)
    sides = section.sides or (DIGITS_SIZE if section.source == "digits" else None)
    wide = as_tensors({name: widened(part, channels) for name, part in zip(PARTS, images, strict=True)})
    pool, tests = (resized(part, sides, section.source) for part in wide.values())
    _check_sizes(pool, tests)
    return pool, tests


def _check_sizes(train: Tensor, test: Tensor) -> None:
    if train.shape[1:] != test.shape[1:]:
        shapes = f"{tuple(train.shape[1:])} and {tuple(test.shape[1:])}"
        raise ConfigurationError(
            f"data.size: training and test images of shapes {shapes} are not of one size; data.size=PIXELS or "
            "data.size=HEIGHTxWIDTH resizes all"
        )


def _check_plain(section: DataSection, inputs: Array) -> None:
    """Refuse what is for images alone."""
    are = f"is for images, uint8 (N, C, H, W); these inputs are {inputs.dtype} of shape {inputs.shape}"
    for key, value in (("size", section.size), ("crop", section.crop), ("flip", section.flip)):
        if value:
            raise refusal(f"data.{key}", value, are)
