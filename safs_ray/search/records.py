"""Evaluations on storage: Parquet parts in the folder ``evaluations`` of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, fields

import pyarrow as pa
import pyarrow.parquet as pq

from safs_ray.search.evaluation import Evaluation
from safs_ray.storage import Folder

_TYPES = {
    "str": pa.string(), "Phase": pa.string(), "Assignment": pa.list_(pa.string()),
    "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
}  # fmt: skip
SCHEMA = pa.schema([pa.field(field.name, _TYPES[str(field.type)]) for field in fields(Evaluation)])


def read_evaluations(folder: Folder) -> list[Evaluation]:
    """Every evaluation in a run's folder of Parquet parts, in the order of arrival; none where it is not there."""
    tables = [pq.read_table(io.BytesIO(folder.read(name))) for name in folder.names()]
    return [
        Evaluation(**{**row, "assignment": tuple(row["assignment"])}) for table in tables for row in table.to_pylist()
    ]


def to_parquet(evaluations: Sequence[Evaluation]) -> bytes:
    """The content of one part."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(evaluation) for evaluation in evaluations], SCHEMA), sink)
    return sink.getvalue()
