"""Data sets that are known by name: scikit-learn's digits and torchvision's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from safs_ray.config import ConfigurationError, DataSection, refusal
from safs_ray.sources import idx
from safs_ray.sources.images import one_line, require_memory
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

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    parts = train_test_split(images, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    return held(parts[0], parts[2]), held(parts[1], parts[3])


def torchvision(section: DataSection) -> tuple[Part, Part]:
    """Training and test part of a torchvision data set, downloaded where it is missing.

    Raises:
        ConfigurationError: the files are missing or damaged and cannot be downloaded.
    """
    from torchvision import datasets  # here: torchvision takes seconds to import, in every worker

    return downloaded(getattr(datasets, TORCHVISION[section.source]), section.source, Path(section.folder))


def downloaded(dataset: Any, name: str, folder: Path) -> tuple[Part, Part]:
    """The parts of a data set of torchvision's kind: a class with ``data`` and ``targets``.

    Raises:
        ConfigurationError: as :func:`torchvision`.
    """
    reason = ""
    for download in (False, True):
        try:
            _check_idx(dataset, name, folder)
            train, test = (dataset(folder, train=train, download=download) for train in (True, False))
            return _part(train), _part(test)
        except ConfigurationError:
            raise
        except Exception as error:  # torchvision raises whatever the files or the network made it raise
            reason = one_line(error)
    raise refusal(
        "data.folder",
        str(folder),
        f"holds no complete {name}{_other(dataset, folder)} and it cannot be downloaded ({reason}); put torchvision's "
        "files of it there, or name another folder with data.folder=, or use data.source=digits",
    )


def _part(dataset: Any) -> Part:
    """Images are (N, H, W) or (N, H, W, C) in torchvision."""
    images, labels = np.asarray(dataset.data), np.asarray(dataset.targets)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
        raise ValueError(f"{images.dtype} images of shape {images.shape}, labels of shape {labels.shape}")
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return held(images, labels)


def _check_idx(dataset: Any, name: str, folder: Path) -> None:
    """Refuse damaged files of a data set of MNIST's kind, once all are there; torchvision downloads those that lack."""
    archives = [archive for archive, _ in getattr(dataset, "resources", ())]
    paths = [folder / dataset.__name__ / "raw" / Path(archive).stem for archive in archives]
    if not all(path.is_file() for path in paths):
        return
    for images, labels in zip(paths[::2], paths[1::2], strict=True):
        try:
            sizes = idx.check(images, labels)
        except (OSError, ValueError) as error:
            fault = f"holds no complete {name}: {error}; what is deleted is unpacked or downloaded again"
            raise refusal("data.folder", str(folder), fault) from None
        require_memory(name, sizes[0], 1, *sizes[1:])


def _other(dataset: Any, folder: Path) -> str:
    """Which file is there, but is not the published one, so that torchvision does not open it."""
    from torchvision.datasets.utils import check_integrity

    archives = [(Path(dataset.__name__, "raw", name), md5) for name, md5 in getattr(dataset, "resources", ())]
    batches = [*getattr(dataset, "train_list", ()), *getattr(dataset, "test_list", ())]
    if batches:
        batches.append((dataset.meta["filename"], dataset.meta["md5"]))
    for name, md5 in [*archives, *((Path(dataset.base_folder, name), md5) for name, md5 in batches)]:
        if (folder / name).is_file() and not check_integrity(folder / name, md5):
            return f": {folder / name} is not the published file, which has the md5 {md5},"
    return ""
