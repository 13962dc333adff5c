"""Data sets that are known by name: scikit-learn's digits and torchvision's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from safs_ray.config import DataSection, refusal
from safs_ray.sources.images import one_line
from safs_ray.sources.part import Part, held

TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
"""Classes of :mod:`torchvision.datasets` by the name of the source."""


def digits() -> tuple[Part, Part]:
    """scikit-learn's digits: 1,797 images of 8x8.

    The set has no test split of its own: one image in five, stratified, the same in every run.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    parts = train_test_split(images, found.target, test_size=0.2, random_state=0, stratify=found.target)
    return held(parts[0], parts[2]), held(parts[1], parts[3])


def torchvision(section: DataSection) -> tuple[Part, Part]:
    """Training and test part of a torchvision data set, downloaded where it is missing.

    Raises:
        ConfigurationError: the files are missing or damaged and cannot be downloaded.
    """
    from torchvision import datasets

    return downloaded(getattr(datasets, TORCHVISION[section.source]), section.source, Path(section.folder))


def downloaded(dataset: Any, name: str, folder: Path) -> tuple[Part, Part]:
    """The parts of a data set of torchvision's kind: a class with ``data`` and ``targets``."""
    reason = ""
    for download in (False, True):
        try:
            train, test = (dataset(folder, train=train, download=download) for train in (True, False))
            return _part(train), _part(test)
        except Exception as error:  # torchvision raises whatever the files or the network made it raise
            reason = one_line(error)
    raise refusal(
        "data.folder",
        str(folder),
        f"holds no complete {name} and it cannot be downloaded ({reason}); put torchvision's files of it there, or "
        "name another folder with data.folder=, or use data.source=digits",
    )


def _part(dataset: Any) -> Part:
    """Images are (N, H, W) or (N, H, W, C) in torchvision."""
    images = np.asarray(dataset.data)
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return held(images, np.asarray(dataset.targets))
