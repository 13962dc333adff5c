from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safs_ray.experiment import Row, results
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import Result
from safs_ray.storage import Folder


def evaluation(
    iteration: int, phase: str = "search", repeated: bool = False, diverged: bool = False, sweep: Sweep = Sweep.SAFS
) -> Evaluation:
    return Evaluation(
        sweep=sweep,
        trial="a",
        iteration=iteration,
        phase=phase,  # type: ignore[arg-type]
        key=str(iteration),
        assignment=("relu",),
        hyperparameters="{}",
        epochs=1,
        seed=0,
        validation_accuracy=0.5,
        best_accuracy=0.5,
        cost=0.5,
        accepted=True,
        diverged=diverged,
        repeated=repeated,
        core_seconds=0.0 if repeated else 2.0,
    )


EVALUATIONS = [
    evaluation(0),
    evaluation(1, repeated=True),
    evaluation(2, diverged=True),
    evaluation(3, phase="fine-tuning"),
]


def test_cost_of_a_search() -> None:
    assert results.search_cost(EVALUATIONS, {}) == {
        "trials": 1,
        "evaluations": 2,
        "evaluations_saved": 1,
        "diverged": 1,
        "core_seconds": 6.0,
    }


def test_rows_count_all_that_led_to_them(dense: Result, pruned: Result) -> None:
    def final(result: Result, *tests: float) -> list[Result]:
        return [replace(result, validation_accuracy=test, test_accuracy=test, core_seconds=1.0) for test in tests]

    rows = results.table(
        {Row.PRUNED: replace(pruned, core_seconds=10.0), Row.SAFS: replace(pruned, core_seconds=20.0)},
        {
            Row.DENSE: final(dense, 0.9),
            Row.PRUNED: final(pruned, 0.4, 0.5, 0.6),
            Row.SAFS: final(pruned, 0.7, 0.7, 0.7),
        },
        EVALUATIONS,
        {},
        {},
    )
    assert [row["name"] for row in rows] == ["dense", "pruned", "SAFS"]
    assert [row["core_seconds"] for row in rows] == [1, 1 + 10 + 3, 1 + 20 + 6 + 3]
    assert [row["evaluations"] for row in rows] == [0, 0, 2]
    assert rows[0]["test_accuracy"] == {"mean": 0.9, "sd": None, "values": [0.9]}
    assert rows[1]["test_accuracy"]["mean"] == pytest.approx(0.5)
    assert rows[1]["test_accuracy"]["sd"] == pytest.approx(0.1)
    assert rows[2]["validation_accuracy"]["sd"] == 0
    assert rows[0]["sparsity"] == 0
    assert rows[1]["nonzero_weights"] == pruned.network.nonzero_weights


def again(mean: float, seconds: float) -> dict[str, Any]:
    spread = {"mean": mean, "sd": None, "values": [mean]}
    return {"validation_accuracy": spread, "core_seconds": seconds}


def test_finalists_are_part_of_what_a_row_costs() -> None:
    finalists = {"SAFS": {"a": again(0.5, 3.0), "b": again(0.6, 4.0)}, "stage 2": {"a": again(0.5, 50.0)}}
    assert results.search_cost(EVALUATIONS, finalists)["core_seconds"] == 6 + 3 + 4
    assert results.search_cost(results.leading_to(Row.OPERATORS, EVALUATIONS), finalists)["core_seconds"] == 4 + 3 + 4
    assert results.search_cost(results.leading_to(Row.PRUNED, EVALUATIONS), finalists)["core_seconds"] == 0
    staged = [evaluation(0, sweep=Sweep.OPERATORS), evaluation(0, phase="fine-tuning")]
    by_row = {Row.OPERATORS: 2, Row.SAFS: 4 + 7, Row.SCALES: 0}
    for row, seconds in by_row.items():
        assert results.search_cost(results.leading_to(row, staged), finalists)["core_seconds"] == seconds


def test_finalists_as_a_run_folder_tells_of_them(tmp_path: Path, pruned: Result) -> None:
    folder = Folder.at(tmp_path)
    assert results.read_finalists(folder) == {}
    for place, accuracy in (("stage 1/chain-2/seed-0", 0.25), ("stage 1/chain-2/seed-1", 0.75), ("SAFS/b/seed-0", 0.5)):
        result = replace(pruned, validation_accuracy=accuracy, core_seconds=2.0)
        result.save(folder / place)
    (tmp_path / "SAFS" / "begun" / "seed-0").mkdir(parents=True)
    found = results.read_finalists(folder)
    assert found["SAFS"] == {"b": {**again(0.5, 2.0), "won": False}}
    assert found["stage 1"]["chain-2"] == {
        "validation_accuracy": {"mean": 0.5, "sd": pytest.approx(0.3536, abs=1e-4), "values": [0.25, 0.75]},
        "core_seconds": 4.0,
        "won": False,
    }


def test_of_a_network_pruned_elsewhere_there_is_no_dense_row(pruned: Result) -> None:
    finals = {row: [replace(pruned, test_accuracy=0.5, core_seconds=1.0)] for row in (Row.PRUNED, Row.SAFS)}
    start = replace(pruned, core_seconds=0.0)
    rows = results.table(dict.fromkeys(finals, start), finals, EVALUATIONS, {}, {})
    assert [row["name"] for row in rows] == ["pruned", "SAFS"]
    assert [row["core_seconds"] for row in rows] == [1, 6 + 1]


def test_a_row_costs_what_led_to_it() -> None:
    joint = [*EVALUATIONS, evaluation(0, phase="fine-tuning", sweep=Sweep.SCALES)]
    assert results.leading_to(Row.PRUNED, joint) == []
    assert results.leading_to(Row.OPERATORS, joint) == EVALUATIONS[:3]
    assert results.leading_to(Row.SCALES, joint) == joint[4:]
    assert results.leading_to(Row.SAFS, joint) == EVALUATIONS
    staged = [evaluation(0, sweep=Sweep.OPERATORS), evaluation(0, phase="fine-tuning")]
    assert results.leading_to(Row.OPERATORS, staged) == staged[:1]
    assert results.leading_to(Row.SAFS, staged) == staged


def test_trials_of_two_sweeps_are_told_apart() -> None:
    both = [evaluation(0), evaluation(0, sweep=Sweep.OPERATORS)]
    assert results.search_cost(both, {})["trials"] == 2


def test_best_is_chosen_by_validation_not_by_test(pruned: Result) -> None:
    folds = [
        replace(pruned, validation_accuracy=0.6, test_accuracy=0.9),
        replace(pruned, validation_accuracy=0.7, test_accuracy=0.1),
    ]
    assert results.best_of(folds) is folds[1]


def test_rows_count_all_pruners_that_were_tried(pruned: Result) -> None:
    known = {"epochs": [1], "validation_accuracy": [0.5]}
    tried = {"gsm": {**known, "core_seconds": 10.0}, "erk": {**known, "core_seconds": 5.0}}
    final = [replace(pruned, test_accuracy=0.5, core_seconds=1.0)]
    start = {Row.PRUNED: replace(pruned, core_seconds=10.0)}
    assert [row["core_seconds"] for row in results.table(start, {Row.PRUNED: final}, [], {}, tried)] == [10 + 5 + 1]
