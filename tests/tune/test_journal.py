from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.search.course import Course, Sweep, operators_only
from safs_ray.search.evaluation import Evaluation, canonical
from safs_ray.search.records import JOURNALS, endings
from safs_ray.storage import Folder
from safs_ray.tune.journal import Ending, Entry, Journal, Past

CHOSEN = Hyperparameters(learning_rate=5e-3)


def journal(folder: Path) -> Journal:
    return Journal(Folder.at(folder), Sweep.OPERATORS)


def evaluation(trial: str, iteration: int, accuracy: float, assignment: tuple[str, ...] = ("relu",)) -> Evaluation:
    return Evaluation(
        Sweep.OPERATORS, trial, iteration, "search", "k", assignment, "{}", 1, 0, accuracy, accuracy, 1 - accuracy,
        accepted=True, diverged=False, repeated=False, core_seconds=1.0,
    )  # fmt: skip


def test_what_is_decided_is_on_storage_at_once(tmp_path: Path) -> None:
    assert journal(tmp_path).entries == []
    written = journal(tmp_path)
    assert [written.propose(CHOSEN), written.propose(replace_rate(1e-2), ("relu", "tanh"))] == [0, 1]
    assert [entry.hyperparameters.learning_rate for entry in journal(tmp_path).entries] == [5e-3, 1e-2]
    written.end(1, "stopped", 4, 0.5)
    assert journal(tmp_path).entries == [
        Entry(CHOSEN),
        Entry(replace_rate(1e-2), ("relu", "tanh"), "stopped", 4, 0.5),
    ]
    assert Journal(Folder.at(tmp_path), Sweep.SCALES).entries == [], "every sweep has its own"


def test_a_report_reads_endings(tmp_path: Path) -> None:
    run, course = Folder.at(tmp_path), Course(Sweep.SCALES, 0, 4)
    assert endings(run, course) == {}
    written = Journal(run / JOURNALS, Sweep.SCALES)
    ended: tuple[Ending | None, ...] = ("finished", "stopped", None, "diverged", "cut")
    for ending in ended:
        number = written.propose(CHOSEN)
        if ending:
            written.end(number, ending, 4, 0.5)
    assert endings(run, course) == {
        "trial-1": "finished", "trial-2": "stopped", "trial-4": "diverged", "trial-5": "cut"
    }  # fmt: skip
    (run / JOURNALS).write("stage-2.json", b'{"trials": [3')
    assert endings(run, course) == {}


def replace_rate(rate: float) -> Hyperparameters:
    return CHOSEN.model_copy(update={"learning_rate": rate})


@pytest.mark.parametrize("length", [0, 1, 40, 150])
def test_a_damaged_journal_is_set_aside(tmp_path: Path, length: int) -> None:
    journal(tmp_path).propose(CHOSEN)
    file = tmp_path / "stage-1.json"
    file.write_bytes(file.read_bytes()[:length])
    assert journal(tmp_path).entries == []
    assert not file.exists()
    assert (tmp_path / "stage-1.json.damaged").stat().st_size == length


def test_trials_whose_steps_are_lost_are_not_done(tmp_path: Path, configuration: Configuration) -> None:
    written = journal(tmp_path)
    for steps in (2, 2, 0):
        number = written.propose(CHOSEN)
        if steps:
            written.end(number, "stopped", steps, 0.5)
    kept = [evaluation("chain-1", 0, 0.4), evaluation("chain-1", 1, 0.5), evaluation("chain-2", 1, 0.5)]
    past = Past(operators_only(configuration), written, kept)
    assert (past.complete, past.unfinished) == ([0], [1, 2])
    assert past.accuracies(0) == {1: 0.4, 2: 0.5}


def test_trials_that_the_journal_has_lost_are_what_their_steps_say(
    tmp_path: Path, configuration: Configuration
) -> None:
    faster, other = replace_rate(0.1), replace_rate(0.2)
    kept = [
        replace(evaluation("chain-2", iteration, 0.4, assignment), hyperparameters=canonical(faster))
        for iteration, assignment in enumerate([("srs", "relu"), ("tanh", "relu")])
    ]
    written = journal(tmp_path)
    Past(operators_only(configuration), written, kept).recover(lambda number: other if number == 0 else CHOSEN, True)
    assert journal(tmp_path).entries == written.entries == [Entry(other), Entry(faster, ("srs", "relu"))]
    Past(operators_only(configuration), written, kept).recover(lambda _: CHOSEN, True)
    assert len(written.entries) == 2, "nothing is lacking any more"
    own = Journal(Folder.at(tmp_path / "own"), Sweep.OPERATORS)
    Past(operators_only(configuration), own, kept).recover(lambda _: other, False)
    assert own.entries == [Entry(other), Entry(faster)]


def test_what_a_trial_has_found(tmp_path: Path) -> None:
    written = journal(tmp_path)
    written.propose(CHOSEN)
    steps = [
        evaluation("chain-1", 0, 0.4, ("relu",)),
        evaluation("chain-1", 1, 0.5, ("tanh",)),
        evaluation("chain-1", 2, 0.5, ("srs",)),
    ]
    assert Past(Course(Sweep.OPERATORS, 3, 0), written, steps).best_assignment(0) == ("tanh",), "the first of the best"
    tuned = replace(evaluation("chain-1", 3, 0.3, ("elu",)), phase="fine-tuning")
    assert Past(Course(Sweep.OPERATORS, 3, 1), written, [*steps, tuned]).best_assignment(0) == ("elu",)
