"""Image files in Parquet tables."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from safs_ray import machine
from safs_ray.config import ConfigurationError, counted, refusal
from safs_ray.data import Array
from safs_ray.sources.decoding import Decoder, File
from safs_ray.sources.images import one_line
from safs_ray.sources.part import Indices, Part, set_aside
from safs_ray.sources.splits import split_to_test_on, tables

log = logging.getLogger("safs_ray")

ROWS = 256
"""Rows of a Parquet file whose images are in memory, encoded, at a time."""

BUFFER = 2**20
"""Bytes of a Parquet file that are read at a time, unless it is buffered before: then those of a whole row group, which
may be all images of a file."""

IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label", "coarse_label")
"""Names of the columns; the first that is there once is taken."""

LABEL_BYTES = 2 * 8
"""Of one label, as Parquet has it and as a tensor."""

UNLABELLED = -1
"""What stands for a label that is not known, as in the test images of ImageNet on the Hugging Face hub."""

HUGGINGFACE = b"huggingface"
"""Where ``datasets`` (5.2) writes what a column means, in the metadata of a schema."""


def parquet(folder: Path, decoder: Decoder, image: str | None = None, label: str | None = None) -> tuple[Part, Part]:
    """The tables of a folder, see :func:`~safs_ray.sources.splits.tables`.

    They have a column of images, structs with bytes or bytes, and one of labels, whose classes may have names in the
    schema. Validation images stand in for test images that lack, or have no labels; without either, some of the
    training images.

    Args:
        image, label: names of the columns; by default those of IMAGES and LABELS.

    Raises:
        ConfigurationError: a file is missing or damaged, or has other columns.
    """
    splits = tables(folder, decoder.source)

    def part(split: str) -> Part:
        files = [Table(path, str(path.relative_to(folder)), decoder.source, image, label) for path in splits[split]]
        return _joined(files, decoder)

    train = part("train")
    for split, kind in (("test", "test"), ("val", "validation")):
        if split in splits and _unlabelled(part(split)):
            log.warning("data.source=%s: not used: the %s images, which have no labels", decoder.source, kind)
            del splits[split]
    names = {split: str(files[0].relative_to(folder)) for split, files in splits.items()}
    tested = split_to_test_on(names, decoder.source)
    if tested is None:
        return set_aside(train, decoder.source)
    test = part(tested)
    _check_names(train, test, decoder.source)
    return train, test


def _unlabelled(part: Part) -> bool:
    return bool(len(part.labels) and (part.labels == UNLABELLED).all())


def _check_names(train: Part, test: Part, source: str) -> None:
    if train.names != test.names and train.names and test.names:
        pairs = zip(train.names, test.names, strict=False)
        one, other = next((pair for pair in pairs if pair[0] != pair[1]), (len(train.names), len(test.names)))
        raise refusal("data.source", source, f"names other classes in its test tables: {other} where train has {one}")


@dataclass(frozen=True)
class Table:
    """A Parquet file of images and labels.

    Attributes:
        name: from the folder of the source on, for messages.
        source: as ``data.source`` has it, for messages.
        image, label: the columns that were asked for.
    """

    path: Path
    name: str
    source: str
    image: str | None
    label: str | None

    def labels(self) -> tuple[Array, tuple[str, ...]]:
        """The labels, and the names of the classes; -1 everywhere where no label is known.

        Raises:
            ConfigurationError: they are no integers, or, as a small file may say, more than memory holds.
        """
        with self._reading(), pq.ParquetFile(self.path) as file:
            column, rows, free = self._column(file, "label"), file.metadata.num_rows, machine.free_memory()
            if LABEL_BYTES * rows > free:
                takes = f"{machine.readable(LABEL_BYTES * rows)} of memory for the labels of {counted(rows, 'row')}"
                raise self._unfit(f"{takes}, and {machine.readable(free)} are free")
            labels, names = file.read([column])[column], _class_names(file.schema_arrow, column)
            self._check_images(file)
        if len(labels) == 0:  # one of several files may be empty, and its columns of any type
            return np.zeros(0, np.int64), names
        if pa.types.is_integer(labels.type) and labels.null_count == len(labels):
            return np.full(len(labels), UNLABELLED), names
        if not pa.types.is_integer(labels.type) or labels.null_count:
            raise self._unfit(f"{column} as integers in every row{_found(labels)}")
        return labels.to_numpy(), names

    def images(self, chosen: Indices) -> Iterator[File]:
        """The image files in these rows, which ascend, with a name for each."""
        rows = iter(chosen.tolist())
        row, first = next(rows, None), 0
        with self._reading(), pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False) as file:
            column = self._column(file, "image")
            for batch in file.iter_batches(ROWS, columns=[column]):
                images = self._embedded(batch.column(0), column, first)
                while row is not None and row < first + len(images):
                    yield f"{self.name} row {row}", io.BytesIO(images[row - first].as_py())
                    row = next(rows, None)
                first += len(images)
                if row is None:
                    return

    def _column(self, file: pq.ParquetFile, what: str) -> str:
        """The name of the column of images or of labels.

        Raises:
            ConfigurationError: there is none, or several columns have it.
        """
        there, asked = list(file.schema_arrow.names), {"image": self.image, "label": self.label}[what]
        if asked and there.count(asked) != 1:
            raise refusal(f"data.{what}_column", asked, f"{self.name} has the columns {', '.join(there)}")
        known = {"image": IMAGES, "label": LABELS}[what]
        if column := asked or next((name for name in known if there.count(name) == 1), None):
            return column
        needed = f"the column {known[0]} (or {', '.join(known[1:])})"
        raise self._unfit(f"{needed}; it has {', '.join(there)}; data.{what}_column=NAME takes another")

    def _check_images(self, file: pq.ParquetFile) -> None:
        column = self._column(file, "image")
        content = file.schema_arrow.field(column).type
        if pa.types.is_struct(content):
            fields = {field.name: field.type for field in content}
            content = fields.get("bytes", fields.get("path", content))
        if file.metadata.num_rows == 0:
            return
        if pa.types.is_string(content) or pa.types.is_large_string(content):
            first = next(file.iter_batches(1, columns=[column])).column(0)[0].as_py()
            if path := first["path"] if isinstance(first, dict) else first:
                raise self._of_paths(0, path)
        if not (pa.types.is_binary(content) or pa.types.is_large_binary(content) or pa.types.is_null(content)):
            raise self._unfit(f"{column} as a struct with bytes in every row")

    def _embedded(self, images: pa.Array, column: str, first: int) -> pa.Array:
        """The bytes of images, whose rows in the table are these from ``first`` on.

        Raises:
            ConfigurationError: a row has none, or nothing but the path of a file.
        """
        contents = pc.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images
        if not contents.null_count:
            return contents
        empty = pc.index(pc.is_null(contents), True).as_py()
        row = images[empty].as_py()
        if row is None or not row.get("path"):
            raise self._unfit(f"{column} as a struct with bytes in every row; row {first + empty} has none")
        raise self._of_paths(first + empty, row["path"])

    def _of_paths(self, row: int, path: str) -> ConfigurationError:
        """The error of a table of paths, not of images."""
        fault = f"{self.name} has no bytes in row {row}, but the path {path}"
        way_out = "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)"
        return refusal("data.source", self.source, f"{fault}; embed the files before you write the table: {way_out}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Tell in one line what a damaged file leads to."""
        try:
            yield
        except ConfigurationError:
            raise
        except Exception as error:  # pyarrow raises many kinds
            raise refusal("data.source", self.source, f"{self.name} cannot be read ({one_line(error)})") from None

    def _unfit(self, needed: str) -> ConfigurationError:
        return refusal("data.source", self.source, f"{self.name} needs {needed}")


def _joined(tables: Sequence[Table], decoder: Decoder) -> Part:
    """The images of several tables, one after the other.

    Raises:
        ConfigurationError: they name different classes, or a label has none.
    """
    labels, names = zip(*(table.labels() for table in tables), strict=True)
    ends = np.cumsum([len(each) for each in labels])
    for table, own, known in zip(tables, labels, names, strict=True):
        if known != names[0]:
            raise refusal("data.source", decoder.source, f"{table.name} names other classes than {tables[0].name}")
        if known and len(own) and own.max() >= len(known):
            fault = f"{table.name} has the label {own.max()}, and names {counted(len(known), 'class', 'classes')}"
            raise refusal("data.source", decoder.source, fault)

    def files(chosen: Indices) -> Iterator[File]:
        for table, begin, end in zip(tables, [0, *ends], ends, strict=False):
            if len(own := chosen[(chosen >= begin) & (chosen < end)] - begin):
                yield from table.images(own)

    paths = tuple(str(table.path) for table in tables)
    return Part(np.concatenate(labels), lambda chosen: decoder.decoded(files(chosen), len(chosen)), names[0], paths)


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The names that ``datasets`` has given the classes of a column, by label; none where it has not."""
    try:
        feature = json.loads((schema.metadata or {})[HUGGINGFACE])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError, RecursionError):  # what somebody else wrote there
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _found(labels: pa.ChunkedArray) -> str:
    """What labels that are no integers are."""
    if labels.null_count:
        return f"; row {pc.index(pc.is_null(labels), True).as_py()} has none"
    return f"; they are of type {labels.type}"
