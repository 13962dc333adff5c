from __future__ import annotations

import pytest

from safs_ray.report.canvas import Figure
from safs_ray.report.figures import cost
from safs_ray.report.figures.cost import parts_of, saved_by_board
from safs_ray.report.record import Record
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation


def evaluation(trial: str, key: str, seconds: float) -> Evaluation:
    return Evaluation(Sweep.SAFS, trial, 0, "search", key, (), "{}", 1, 0, 0, 0, 0, True, False, not seconds, seconds)


def test_what_the_board_saved_is_what_the_first_evaluation_took() -> None:
    steps = [evaluation("a", "k", 3), evaluation("b", "k", 0), evaluation("c", "k", 0), evaluation("d", "l", 5)]
    assert saved_by_board(steps) == (6, 2)


def test_parts_add_up_to_what_the_rows_took(record: Record) -> None:
    parts = parts_of(record)
    assert list(parts) == [
        "dense training", "pruning", "SAFS, candidates", "SAFS, fine-tuning", "last training, pruned",
        "last training, SAFS",
    ]  # fmt: skip
    rows = {row["name"]: row["core_seconds"] for row in record.rows}
    assert sum(parts.values()) - parts["last training, pruned"] == pytest.approx(rows["SAFS"])


def test_results_alone_tell_the_parts_of_the_last_row(bare: Record) -> None:
    rows = {row["name"]: row["core_seconds"] for row in bare.rows}
    parts = parts_of(bare)
    assert sum(parts.values()) == pytest.approx(rows["SAFS"])
    assert parts["dense training"] == rows["dense"]
    assert isinstance(cost.draw(bare), Figure)
