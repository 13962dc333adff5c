from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import SCHEMA, read_evaluations, to_parquet
from safs_ray.storage import Folder

FRACTIONS = st.floats(0, 1)
EVALUATIONS = st.builds(
    Evaluation,
    phase=st.sampled_from(["search", "fine-tuning"]),
    assignment=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    iteration=st.integers(0, 2**31),
    epochs=st.integers(0, 2**31),
    seed=st.integers(0, 2**63 - 1),
    validation_accuracy=FRACTIONS,
    best_accuracy=FRACTIONS,
    cost=FRACTIONS,
    core_seconds=st.floats(0, 1e9),
    curve=st.lists(FRACTIONS, max_size=3).map(tuple),
)


def place(evaluation: Evaluation) -> tuple[str, str, int]:
    return evaluation.sweep, evaluation.trial, evaluation.iteration


@given(st.lists(EVALUATIONS, max_size=4, unique_by=place))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, evaluations: list[Evaluation]
) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("evaluations"))
    folder.write("part-00000.parquet", to_parquet(evaluations))
    assert read_evaluations(folder) == evaluations


def test_every_attribute_is_a_column() -> None:
    assert SCHEMA.names == [field.name for field in fields(Evaluation)]


def test_parts_are_read_in_their_order_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert read_evaluations(Folder.at(tmp_path / "none")) == []
    values = (0, "search", "k", ("relu",), "{}", 1, 0, 0.5, 0.5, 0.5, True, False, False, 1.0)
    one, two = (Evaluation(Sweep.SAFS, trial, *values) for trial in ("a", "b"))
    folder = Folder.at(tmp_path)
    folder.write("part-00001.parquet", to_parquet([two]))
    folder.write("part-00000.parquet", to_parquet([one]))
    assert read_evaluations(folder) == [one, two]
    folder.write("part-00002.parquet", to_parquet([one]))
    assert read_evaluations(folder) == [one, two], "a step that two sessions have written is one step"
