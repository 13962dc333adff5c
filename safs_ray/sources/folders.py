"""Image files in Parquet tables and in a folder for each class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safs_ray import machine
from safs_ray.config import ConfigurationError, refusal
from safs_ray.data import Array
from safs_ray.sources.images import decoded, one_line
from safs_ray.sources.part import Indices, Part

ROWS = 256
"""Rows of a Parquet file whose images are in memory, encoded, at a time."""

LABEL_BYTES = 2 * 8
"""Of one label, as Parquet has it and as a tensor."""


def parquet(folder: Path, size: int | None) -> tuple[Part, Part]:
    """train.parquet and test.parquet with a column image or img (struct with bytes) and a column label.

    Raises:
        ConfigurationError: a file is missing or damaged, or has other columns.
    """
    return _parquet_part(folder / "train.parquet", size), _parquet_part(folder / "test.parquet", size)


def _parquet_part(path: Path, size: int | None) -> Part:
    source = f"parquet:{path.parent}"
    with _reading(path):
        file = pq.ParquetFile(path)
        names = list(file.schema_arrow.names)
    column = next((name for name in ("image", "img") if names.count(name) == 1), None)
    if column is None or names.count("label") != 1:
        raise _unfit(path, f"the columns image (or img) and label; it has {', '.join(names)}")
    labels = _labels(file, path)
    content = file.schema_arrow.field(column).type
    if pa.types.is_struct(content) and content.get_field_index("bytes") >= 0:
        content = content.field("bytes").type
    if not (pa.types.is_binary(content) or pa.types.is_large_binary(content)):
        raise _unfit(path, f"{column} as a struct with bytes in every row")

    def read(chosen: Indices) -> Array:
        rows = zip(chosen, _contents(file, path, column, chosen), strict=True)
        files = ((f"{path.name} row {row}", io.BytesIO(content)) for row, content in rows)
        return decoded(files, len(chosen), size, source)

    return Part(labels, read)


def _labels(file: pq.ParquetFile, path: Path) -> Array:
    """The column label, unless a small file says that it has more rows than memory holds."""
    rows, free = file.metadata.num_rows, machine.free_memory()
    if LABEL_BYTES * rows > free:
        takes = f"{machine.readable(LABEL_BYTES * rows)} of memory for the labels of {rows:,} rows"
        raise _unfit(path, f"{takes}, and {machine.readable(free)} are free")
    with _reading(path):
        labels = file.read(["label"])["label"]
    if not pa.types.is_integer(labels.type) or labels.null_count or len(labels) == 0:
        raise _unfit(path, "label as integers in every row")
    numbers: Array = labels.to_numpy()
    return numbers


def _contents(file: pq.ParquetFile, path: Path, column: str, chosen: Indices) -> Iterator[bytes]:
    """The image files in ascending rows."""
    first = 0
    with _reading(path):
        for batch in file.iter_batches(ROWS, columns=[column]):
            images = batch.column(0)
            if pa.types.is_struct(images.type):
                images = pc.struct_field(images, "bytes")
            if images.null_count:
                raise _unfit(path, f"{column} as a struct with bytes in every row")
            for row in chosen[(chosen >= first) & (chosen < first + len(images))]:
                yield images[row - first].as_py()
            first += len(images)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell in one line what a damaged file leads to."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:  # pyarrow raises many kinds
        missing = isinstance(error, FileNotFoundError)
        reason = f"there is no file {path}" if missing else f"{path.name} cannot be read ({one_line(error)})"
        raise refusal("data.source", f"parquet:{path.parent}", reason) from None


def _unfit(path: Path, needed: str) -> ConfigurationError:
    return refusal("data.source", f"parquet:{path.parent}", f"{path.name} needs {needed}")


def imagefolder(folder: Path, size: int | None) -> tuple[Part, Part]:
    """FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, any image format that Pillow reads.

    Raises:
        ConfigurationError: a folder is missing, a class has no images, or the parts have different classes.
    """
    from torchvision.datasets import ImageFolder

    source = f"imagefolder:{folder}"
    parts = []
    for name in ("train", "test"):
        try:
            parts.append(ImageFolder(str(folder / name)))
        except (OSError, ValueError) as error:
            raise refusal("data.source", source, one_line(error)) from None
    for one, other in ((0, 1), (1, 0)):
        if lacking := sorted(set(parts[one].classes) - set(parts[other].classes)):
            raise refusal("data.source", source, f"{('train', 'test')[other]} has no folder of the class {lacking[0]}")
    train, test = (_folder_part([path for path, _ in part.samples], part.targets, size, source) for part in parts)
    return train, test


def _folder_part(paths: list[str], labels: list[int], size: int | None, source: str) -> Part:
    return Part(
        np.array(labels),
        lambda chosen: decoded(((paths[row], paths[row]) for row in chosen), len(chosen), size, source),
    )
