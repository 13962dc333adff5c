"""ImageNet downsampled to 16x16 (Chrabaszcz et al. 2017), as the batches that image-net.org hands out.

The published validation images are the test images here. Validation is held out of the training images, as for every
source; the original system used one set for both.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from safs_ray.config import refusal
from safs_ray.data import Array
from safs_ray.sources.images import require_memory
from safs_ray.sources.part import Part, held

CLASSES = 1000
IMAGES = 1_281_167 + 50_000
LARGEST = 2**28
"""Bytes; all published files are smaller."""

SUMS = {
    "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
    "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
    "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
    "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
    "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
    "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
    "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
    "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
    "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
    "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
    "val_data": "3410e3017fdaefba8d5073aaa65e4bd6",
}
"""The published md5 sums of the files (as in NAS-Bench-201, Dong & Yang 2020)."""


def imagenet16(folder: Path, classes: int = CLASSES) -> tuple[Part, Part]:
    """The images of the first so many classes: 1,000 are all, 120 make ImageNet16-120.

    Raises:
        ConfigurationError: a file is missing or is not the published one, or there are not so many classes.
    """
    if not 2 <= classes <= CLASSES:
        raise refusal("data.source", f"imagenet16-{classes}:{folder}", f"allowed: 2 to {CLASSES:,} classes")
    require_memory(f"imagenet16:{folder}", IMAGES * classes // CLASSES, 3, 16, 16)
    return read(folder, classes, SUMS)


def read(folder: Path, classes: int, sums: Mapping[str, str]) -> tuple[Part, Part]:
    """The batches of these names and md5 sums; val_data holds the test images."""
    batches = {name: _batch(folder, name, md5, classes) for name, md5 in sums.items()}
    test = batches.pop("val_data")
    images, labels = (np.concatenate(parts) for parts in zip(*batches.values(), strict=True))
    return held(images, labels), held(*test)


def _batch(folder: Path, name: str, md5: str, classes: int) -> tuple[Array, Array]:
    """Images (N, 3, 16, 16) and labels from 0, of the classes wanted."""
    source = f"imagenet16:{folder}"
    try:
        with (folder / name).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise refusal("data.source", source, f"{folder / name} cannot be read ({error.strerror})") from None
    if len(content) > LARGEST:
        raise refusal("data.source", source, f"{name} is not the published file: it has more than {LARGEST:,} bytes")
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise refusal("data.source", source, f"{name} is not the published file: its md5 is {digest}, must be {md5}")
    # A pickle can run any code when it is read. These very bytes are known, so what they do is known too.
    batch = pickle.loads(content, encoding="latin1")
    labels = np.array(batch["labels"]) - 1
    wanted = labels < classes
    return batch["data"][wanted].reshape(-1, 3, 16, 16), labels[wanted]
