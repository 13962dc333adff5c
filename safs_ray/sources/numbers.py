"""Tables of numbers, Parquet or CSV, with columns of labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from safs_ray.config import DataSection, counted, refusal
from safs_ray.data import Array
from safs_ray.sources.images import one_line
from safs_ray.sources.own import labels_of, refuse
from safs_ray.sources.part import Part, held

log = logging.getLogger("safs_ray")

ENDINGS = (".parquet", ".csv")

LABELS = ("label", "target")
"""Names of the column of labels; the first that is there is taken."""

UNNAMED = re.compile(r"Unnamed: 0|__index_level_\d+__")
"""What pandas calls an index without a name."""


def table(folder: Path, section: DataSection) -> tuple[Part, Part]:
    """train.parquet or train.csv, and test.parquet or test.csv: every other column is a feature, a number in every row.

    A column in which pandas has numbered the rows is none: rows in the order of their classes would tell them.
    Classes may be texts, which get their numbers in the order of the alphabet.

    Raises:
        ConfigurationError: a file is missing or damaged, a column is not there, or holds something else than numbers.
    """
    train, test = (_read(folder, name, section) for name in ("train", "test"))
    labels = _label_columns(train, section)
    features = [name for name in train.column_names if name not in labels]
    if not features:
        refuse(section, f"train has no columns beside {', '.join(labels)}")
    names = _class_names(train, labels, section)
    return tuple(  # type: ignore[return-value]
        _part(each, part, features, labels, names, section) for part, each in (("train", train), ("test", test))
    )


def _read(folder: Path, name: str, section: DataSection) -> pa.Table:
    places = [folder / f"{name}{ending}" for ending in ENDINGS]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        refuse(section, f"there is neither {places[0]} nor {places[1].name}")
    try:
        read = pq.read_table(place) if place.suffix == ".parquet" else pyarrow.csv.read_csv(place)
    except (pa.ArrowException, OSError) as error:
        refuse(section, f"{place.name} cannot be read ({one_line(error)})")
    if twice := {column for column in read.column_names if read.column_names.count(column) > 1}:
        refuse(section, f"{place.name} has several columns {min(twice)}")
    numbering = _numbering(read)
    if numbering and name == "train":
        names = ", ".join(name or "the column without a name" for name in numbering)
        log.warning("data.source=%s: not used: %s, which numbers the rows", section.source, names)
    decoded = read.drop_columns(numbering)
    for number, field in enumerate(decoded.schema):
        if pa.types.is_dictionary(field.type):  # as pandas writes categories
            decoded = decoded.set_column(number, field.name, decoded[field.name].cast(field.type.value_type))
    return decoded


def _numbering(read: pa.Table) -> list[str]:
    """The columns that pandas writes an index without a name to, as Parquet and as CSV: of different whole numbers."""
    unnamed = [name for name in read.column_names if name == "" or UNNAMED.fullmatch(name)]
    return [
        name for name in unnamed if pa.types.is_integer(read[name].type) and len(pc.unique(read[name])) == read.num_rows
    ]


def _label_columns(train: pa.Table, section: DataSection) -> list[str]:
    has = f"train has the columns {_some(train.column_names)}"
    if section.label_column is None:
        found = [name for name in LABELS if name in train.column_names]
        if not found:
            refuse(section, f"{has}, none called {' or '.join(LABELS)}; data.label_column names it")
        if len(found) > 1:
            both = f"{has}, {' and '.join(found)}: one of them may tell the other; data.label_column names the labels"
            refuse(section, both)
        return found
    labels = [name.strip() for name in section.label_column.split(",")]
    if len(set(labels)) < len(labels):
        raise refusal("data.label_column", section.label_column, "names a column twice")
    if lacking := [name for name in labels if name not in train.column_names]:
        raise refusal("data.label_column", section.label_column, f"{has}, not {lacking[0]}")
    if section.task == "classification" and len(labels) > 1:
        raise refusal("data.label_column", section.label_column, "classification has one column of labels")
    return labels


def _class_names(train: pa.Table, labels: Sequence[str], section: DataSection) -> tuple[str, ...]:
    """The classes in alphabetical order where they are texts."""
    column = train[labels[0]]
    if section.task != "classification" or not _is_text(column):
        return ()
    return tuple(sorted(name for name in pc.unique(column).to_pylist() if name))


def _is_text(column: pa.ChunkedArray) -> bool:
    return any(check(column.type) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _part(
    read: pa.Table,
    part: str,
    features: Sequence[str],
    labels: Sequence[str],
    names: tuple[str, ...],
    section: DataSection,
) -> Part:
    if lacking := [name for name in (*features, *labels) if name not in read.column_names]:
        refuse(section, f"{part} has no column {lacking[0]}, train has one")
    inputs = np.stack([_numbers(read, part, name, section, np.float32) for name in features], axis=1)
    if names:
        texts = read[labels[0]].cast(pa.string())  # numbers, where only the other part has texts
        numbers = pc.index_in(texts, pa.array(names))
        if numbers.null_count:
            row = numbers.to_pylist().index(None)
            has = f"{labels[0]}={value}" if (value := texts[row].as_py()) else f"no {labels[0]}"
            refuse(section, f"{part} has {has} in row {row}; allowed: {', '.join(names[:10])}")
        classes: Array = numbers.to_numpy()
    else:
        classes = np.stack([_numbers(read, part, name, section) for name in labels], axis=1)
        if section.task == "classification":
            classes = _whole(classes[:, 0], part, labels[0], section)
    return held(inputs, labels_of(classes, f"{part}'s {', '.join(labels)}", len(inputs), section), names)


def _numbers(read: pa.Table, part: str, name: str, section: DataSection, kind: type = np.float64) -> Array:
    """A column as numbers.

    Raises:
        ConfigurationError: it has something else in some row.
    """
    column = read[name]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        refuse(section, f"{part}'s column {name} holds {column.type}, must hold numbers")
    missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)).to_numpy()
    if missing.any():
        rows = f"row {int(missing.argmax())} and {counted(int(missing.sum()) - 1, 'other')}"
        refuse(section, f"{part}'s column {name} has no number in {rows}")
    with np.errstate(over="ignore"):
        numbers: Array = column.to_numpy().astype(kind)
    if not np.isfinite(numbers).all():
        refuse(section, f"{part}'s column {name} holds infinity or what float32 cannot hold")
    return numbers


def _whole(numbers: Array, part: str, name: str, section: DataSection) -> Array:
    classes = numbers.astype(np.int64)
    if (classes != numbers).any():
        broken = numbers[classes != numbers][0]
        refuse(
            section,
            f"{part}'s {name} must be classes, whole numbers from 0, holds {broken:g}; data.task=regression "
            "takes numbers",
        )
    return classes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
