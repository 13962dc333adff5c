"""What a search leaves on storage: evaluations as Parquet parts, and what became of its trials, a journal by sweep."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from safs_ray.search.course import Course, Sweep
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.storage import DamagedError, Folder

log = logging.getLogger("safs_ray")

_TYPES = {
    "str": pa.string(), "Sweep": pa.string(), "Phase": pa.string(), "Assignment": pa.list_(pa.string()),
    "tuple[float, ...]": pa.list_(pa.float64()),
    "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
}  # fmt: skip
SCHEMA = pa.schema([pa.field(field.name, _TYPES[str(field.type)]) for field in fields(Evaluation)])
_LISTS = [field.name for field in SCHEMA if pa.types.is_list(field.type)]


JOURNALS = "journals"
"""Folder of a run: a journal for each sweep."""


def journal_of(sweep: Sweep) -> str:
    """The name of a sweep's file in JOURNALS."""
    return f"{sweep.replace(' ', '-')}.json"


def endings(folder: Folder, course: Course) -> dict[str, str]:
    """How the trials of a sweep ended that have, by name; nothing without its journal, or with a damaged one."""
    try:
        trials = (folder / JOURNALS).read_json(journal_of(course.sweep))["trials"]
        return {course.trial(number): trial["ended"] for number, trial in enumerate(trials) if trial["ended"]}
    except (FileNotFoundError, DamagedError, KeyError, TypeError):
        return {}


def read_evaluations(folder: Folder) -> list[Evaluation]:
    """Every evaluation in a run's folder of Parquet parts, once, in the order of arrival; none where it is not there.

    Those of damaged parts are left out, with a warning.
    """
    ledger = Ledger()
    for name in names_of_parts(folder):
        try:
            part = read_part(folder, name)
        except DamagedError as error:
            log.warning("warning: %s; its evaluations are left out", error)
            continue
        for evaluation in part:
            ledger.record(evaluation)
    return ledger.evaluations


def names_of_parts(folder: Folder) -> list[str]:
    """The files in the order in which they were begun."""
    return [name for name in folder.names() if name.endswith(".parquet")]


def read_part(folder: Folder, name: str) -> list[Evaluation]:
    """The evaluations of one part.

    Raises:
        DamagedError: the file is not what was written.
    """
    content = io.BytesIO(folder.read(name))
    try:
        rows = pq.read_table(content, schema=SCHEMA).to_pylist()
        return [_evaluation(row) for row in rows]
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise DamagedError(f"{folder}/{name} is damaged ({str(error).splitlines()[0]})") from None


def _evaluation(row: dict[str, Any]) -> Evaluation:
    lists = {name: tuple(row[name]) for name in _LISTS}
    return Evaluation(**{**row, **lists, "sweep": Sweep(row["sweep"])})


def to_parquet(evaluations: Sequence[Evaluation]) -> bytes:
    """The content of one part."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(evaluation) for evaluation in evaluations], SCHEMA), sink)
    return sink.getvalue()
