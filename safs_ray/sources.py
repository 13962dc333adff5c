"""Where images come from: a source's name to a :class:`~safs_ray.data.Dataset`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from safs_ray.config import ConfigurationError, DataSection, refusal
from safs_ray.data import Array, Dataset, Examples


def load(section: DataSection) -> Dataset:
    """Read the source that the configuration names.

    Raises:
        ConfigurationError: no such source, missing or damaged files, or images that do not fit together.
    """
    kind, _, argument = section.source.partition(":")
    if kind in FOLDER_SOURCES and argument:
        dataset = FOLDER_SOURCES[kind](Path(argument), section.size)
    elif kind in NAMED_SOURCES and not argument:
        dataset = NAMED_SOURCES[kind](Path(section.folder), section.size)
    else:
        known = [*NAMED_SOURCES, *(f"{name}:FOLDER" for name in FOLDER_SOURCES)]
        raise refusal("data.source", section.source, f"allowed: {', '.join(known)}")
    if section.limit:
        first = slice(section.limit)
        dataset = Dataset(dataset.pool[first], dataset.test[first], dataset.classes)
    for name, part in (("training", dataset.pool), ("test", dataset.test)):
        if len(part) < 2:
            raise refusal("data.source", section.source, f"needs at least two {name} images, has {len(part)}")
    return dataset


def _digits(_: Path, size: int | None) -> Dataset:
    """scikit-learn's digits: 1,797 images of 8x8, enlarged to 28x28 unless a size is given.

    The set has no test split of its own: one image in five, stratified, the same in every run.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    parts = train_test_split(images, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    pool_images, test_images, pool_labels, test_labels = parts
    return _dataset(pool_images, pool_labels, test_images, test_labels, size or 28)


def _mnist(folder: Path, size: int | None) -> Dataset:
    from torchvision.datasets import MNIST

    train, test = _torchvision(MNIST, "mnist", folder)
    return _dataset(
        train.data.numpy()[:, None], train.targets.numpy(), test.data.numpy()[:, None], test.targets.numpy(), size
    )  # fmt: skip


def _cifar10(folder: Path, size: int | None) -> Dataset:
    from torchvision.datasets import CIFAR10

    train, test = _torchvision(CIFAR10, "cifar10", folder)
    images = [np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test)]
    return _dataset(images[0], np.array(train.targets), images[1], np.array(test.targets), size)


def _torchvision(dataset: Callable[..., Any], name: str, folder: Path) -> list[Any]:
    """Training and test part of a torchvision data set, downloaded where it is missing."""
    reason = ""
    for download in (False, True):
        try:
            return [dataset(folder, train=train, download=download) for train in (True, False)]
        except Exception as error:  # torchvision raises whatever the files or the network made it raise
            reason = _one_line(error)
    raise refusal(
        "data.folder",
        str(folder),
        f"holds no complete {name} and it cannot be downloaded ({reason}); put torchvision's files of it there, or "
        "name another folder with data.folder=, or use data.source=digits",
    )


def _parquet(folder: Path, size: int | None) -> Dataset:
    """train.parquet and test.parquet with a column image or img (struct with bytes) and a column label."""
    parts = [_parquet_part(folder / f"{name}.parquet", size) for name in ("train", "test")]
    return _dataset(*parts[0], *parts[1], size)


def _parquet_part(path: Path, size: int | None) -> tuple[Array, Array]:
    source = f"parquet:{path.parent}"
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise refusal("data.source", source, f"there is no file {path}") from None
    except (pa.ArrowException, OSError) as error:
        raise refusal("data.source", source, f"{path.name} cannot be read ({_one_line(error)})") from None
    column = next((name for name in ("image", "img") if name in table.column_names), None)
    if column is None or "label" not in table.column_names:
        found = ", ".join(table.column_names)
        raise refusal("data.source", source, f"{path.name} needs the columns image (or img) and label; it has {found}")
    labels, images = table["label"], table[column]
    if not pa.types.is_integer(labels.type) or labels.null_count or len(labels) == 0:
        raise refusal("data.source", source, f"{path.name} needs label as integers in every row")
    if pa.types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0:
        images = pc.struct_field(images, "bytes")
    if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)) or images.null_count:
        raise refusal("data.source", source, f"{path.name} needs {column} as a struct with bytes in every row")
    files = ((f"{path.name} row {i}", io.BytesIO(row.as_py())) for i, row in enumerate(images))
    return _decoded(files, size, source), labels.to_numpy().astype(np.int64)


def _imagefolder(folder: Path, size: int | None) -> Dataset:
    """FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, any image format that Pillow reads."""
    from torchvision.datasets import ImageFolder

    source = f"imagefolder:{folder}"
    parts = []
    for name in ("train", "test"):
        try:
            parts.append(ImageFolder(str(folder / name)))
        except OSError as error:
            raise refusal("data.source", source, f"{_one_line(error)}") from None
    if parts[0].classes != parts[1].classes:
        raise refusal("data.source", source, f"train has the classes {parts[0].classes}, test has {parts[1].classes}")
    arrays: list[Array] = []
    for part in parts:
        arrays.append(_decoded(((path, path) for path, _ in part.samples), size, source))
        arrays.append(np.array(part.targets))
    return _dataset(arrays[0], arrays[1], arrays[2], arrays[3], size)


def _decoded(files: Iterator[tuple[str, str | io.BytesIO]], size: int | None, source: str) -> Array:
    """Decode encoded images to (N, C, H, W); grayscale only when all are, resized when a size is given."""
    images: list[Image.Image] = []
    for name, file in files:
        image = _opened(name, file, source)
        if size:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        elif images and image.size != images[0].size:
            sizes = f"{name} has {image.size} pixels and the first image {images[0].size}"
            raise refusal("data.source", source, f"{sizes}; data.size=PIXELS resizes all")
        images.append(image)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    arrays = [np.asarray(image.convert(mode)) for image in images]
    stacked = np.stack(arrays) if arrays else np.zeros((0, size or 1, size or 1), np.uint8)
    return stacked[:, None] if mode == "L" else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _opened(name: str, file: str | io.BytesIO, source: str) -> Image.Image:
    try:
        image = Image.open(file)
        if image.mode.startswith("I;16"):  # Pillow would clip 16 bits, not scale them
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except Exception as error:  # each of Pillow's decoders raises errors of its own
        raise refusal("data.source", source, f"{name} is not an image ({_one_line(error).split(' <')[0]})") from None


def _dataset(
    pool_images: Array, pool_labels: Array, test_images: Array, test_labels: Array, size: int | None
) -> Dataset:
    """Check that the parts fit together, and bring the images to one size."""
    labels = np.concatenate([pool_labels, test_labels]).astype(np.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= max(1000, len(labels))):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ConfigurationError(f"data.source: labels must be 0, 1, …, one for each class; found {wrong}")
    channels = max(pool_images.shape[1], test_images.shape[1])
    pool = _examples(pool_images, pool_labels, channels, size)
    test = _examples(test_images, test_labels, channels, size)
    if pool.images.shape[1:] != test.images.shape[1:] or pool.images.shape[2] != pool.images.shape[3]:
        shapes = f"{tuple(pool.images.shape[1:])} and {tuple(test.images.shape[1:])}"
        raise ConfigurationError(
            f"data.size: training and test images of shapes {shapes} are not squares of one size; "
            "data.size=PIXELS resizes all"
        )
    return Dataset(pool, test, int(labels.max()) + 1 if len(labels) else 0)


def _examples(images: Array, labels: Array, channels: int, size: int | None) -> Examples:
    """Gray images get equal channels where the other part of the set is in colour."""
    tensor = torch.from_numpy(images)
    if tensor.shape[1] != channels:
        tensor = tensor.expand(-1, channels, -1, -1).contiguous()
    return Examples(_resized(tensor, size), torch.from_numpy(labels.astype(np.int64)))


def _resized(images: Tensor, size: int | None) -> Tensor:
    if size is None or (images.shape[2], images.shape[3]) == (size, size):
        return images
    resized = [
        interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        for part in torch.split(images, 4096)
    ]
    return torch.cat(resized).round().clamp(0, 255).to(torch.uint8)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


NAMED_SOURCES: dict[str, Callable[[Path, int | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
}
FOLDER_SOURCES: dict[str, Callable[[Path, int | None], Dataset]] = {
    "parquet": _parquet,
    "imagefolder": _imagefolder,
}
