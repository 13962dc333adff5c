"""Image files in Parquet tables."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safs_ray import machine
from safs_ray.config import ConfigurationError, counted, refusal
from safs_ray.data import Array
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.images import one_line
from safs_ray.sources.part import Indices, Part, place_of_test

ROWS = 256
"""Rows of a Parquet file whose images are in memory, encoded, at a time."""

IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")
"""Names of the columns; the first that is there once is taken."""

LABEL_BYTES = 2 * 8
"""Of one label, as Parquet has it and as a tensor."""


def parquet(folder: Path, decoder: Decoder) -> tuple[Part, Part]:
    """train.parquet and test.parquet (or val.parquet, valid.parquet, validation.parquet).

    They have a column image or img, a struct with bytes, and a column label, labels or fine_label.

    Raises:
        ConfigurationError: a file is missing or damaged, or has other columns.
    """
    train = _part(folder / "train.parquet", decoder)
    return train, _part(place_of_test(folder, ".parquet", decoder.source), decoder)


def _part(path: Path, decoder: Decoder) -> Part:
    with _reading(path):
        file = pq.ParquetFile(path)
        names = list(file.schema_arrow.names)
    column, label = (next((name for name in known if names.count(name) == 1), None) for known in (IMAGES, LABELS))
    if column is None or label is None:
        needed = " and ".join(f"{first} (or {', '.join(others)})" for first, *others in (IMAGES, LABELS))
        raise _unfit(path, f"the columns {needed}; it has {', '.join(names)}")
    labels = _labels(file, path, label)
    content = file.schema_arrow.field(column).type
    if pa.types.is_struct(content) and content.get_field_index("bytes") >= 0:
        content = content.field("bytes").type
    if not (pa.types.is_binary(content) or pa.types.is_large_binary(content) or pa.types.is_null(content)):
        raise _unfit(path, f"{column} as a struct with bytes in every row")

    def read(chosen: Indices) -> Array:
        rows = zip(chosen, _contents(file, path, column, chosen), strict=True)
        files = ((f"{path.name} row {row}", io.BytesIO(content)) for row, content in rows)
        return decoder.decoded(files, len(chosen))

    return Part(labels, read)


def _labels(file: pq.ParquetFile, path: Path, column: str) -> Array:
    """The column of labels, unless a small file says that it has more rows than memory holds."""
    rows, free = file.metadata.num_rows, machine.free_memory()
    if LABEL_BYTES * rows > free:
        takes = f"{machine.readable(LABEL_BYTES * rows)} of memory for the labels of {counted(rows, 'row')}"
        raise _unfit(path, f"{takes}, and {machine.readable(free)} are free")
    with _reading(path):
        labels = file.read([column])[column]
    if not pa.types.is_integer(labels.type) or labels.null_count or len(labels) == 0:
        raise _unfit(path, f"{column} as integers in every row")
    numbers: Array = labels.to_numpy()
    return numbers


def _contents(file: pq.ParquetFile, path: Path, column: str, chosen: Indices) -> Iterator[bytes]:
    """The image files in ascending rows."""
    first = 0
    with _reading(path):
        for batch in file.iter_batches(ROWS, columns=[column]):
            images = batch.column(0)
            if pa.types.is_struct(images.type):
                _check_embedded(images, path, first)
                images = pc.struct_field(images, "bytes")
            if images.null_count:
                raise _unfit(path, f"{column} as a struct with bytes in every row")
            for row in chosen[(chosen >= first) & (chosen < first + len(images))]:
                yield images[row - first].as_py()
            first += len(images)


def _check_embedded(images: pa.StructArray, path: Path, first: int) -> None:
    """Refuse images of which the table, whose rows these are from ``first`` on, has nothing but the path of a file."""
    if images.type.get_field_index("path") < 0:
        return
    contents, files = (pc.struct_field(images, name) for name in ("bytes", "path"))
    row = pc.index(pc.and_(pc.is_null(contents), pc.is_valid(files)), True).as_py()
    if row >= 0:
        fault = f"{path.name} has no bytes in row {first + row}, but the path {files[row]}"
        way_out = "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)"
        source = f"parquet:{path.parent}"
        raise refusal("data.source", source, f"{fault}; embed the files before you write the table: {way_out}")


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
