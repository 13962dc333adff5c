from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from safs_ray import config
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.report.record import Record
from safs_ray.report.sweeps import SweepRecord, sweeps_of
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation, canonical


def step(
    trial: str, iteration: int, best: float = 0.5, sweep: Sweep = Sweep.SAFS, rate: float = 0.1, **changes: Any
) -> Evaluation:
    values: dict[str, Any] = {
        "phase": "search", "key": "k", "assignment": ("relu",), "epochs": 1, "seed": 0, "validation_accuracy": best,
        "best_accuracy": best, "cost": 1 - best, "accepted": True, "diverged": False, "repeated": False,
        "core_seconds": 1.0, "hyperparameters": canonical(Hyperparameters(learning_rate=rate)),
    }  # fmt: skip
    return Evaluation(sweep=sweep, trial=trial, iteration=iteration, **{**values, **changes})


def trial(name: str, steps: int, best: float = 0.5, **changes: Any) -> list[Evaluation]:
    return [step(name, iteration, best, **changes) for iteration in range(steps)]


@pytest.fixture
def eight() -> Configuration:
    """Trials of 6 evaluations and 2 stretches, compared at steps 2 and 4."""
    return config.validate(
        {"search": {"steps": 6}, "finetune": {"epochs": 2, "epochs_per_step": 1}, "tune": {"grace_period": 2},
         "final": {"ablations": ["stage 2"]}}
    )  # fmt: skip


def only(configuration: Configuration, evaluations: Sequence[Evaluation], **known: Any) -> SweepRecord:
    (sweep,) = sweeps_of(configuration, evaluations, known.get("results"), known.get("searched", True))
    return sweep


def test_trials_and_their_ends(eight: Configuration) -> None:
    broken = [*trial("broken", 6), step("broken", 6, phase="fine-tuning", diverged=True)]
    evaluations = [*trial("whole", 8), *trial("second rung", 4), *broken, *trial("odd", 3), *trial("first rung", 2)]
    sweep = only(eight, evaluations)
    assert [(each.number, each.name, each.steps, each.fate) for each in sweep.trials] == [
        (1, "whole", 8, "finished"),
        (2, "second rung", 4, "stopped"),
        (3, "broken", 7, "diverged"),
        (4, "odd", 3, "failed"),
        (5, "first rung", 2, "stopped"),
    ]
    assert sweep.rungs == (2, 4)
    assert sweep.over


def test_while_a_sweep_runs_nothing_is_said_of_a_trial_that_may_go_on(eight: Configuration) -> None:
    sweep = only(eight, [*trial("a", 8), *trial("b", 2)], searched=False)
    assert [each.fate for each in sweep.trials] == ["finished", "open"]
    assert not sweep.over


def test_what_asha_is_known_to_have_stopped_is_stopped(eight: Configuration) -> None:
    """While the sweep runs, and after a change of the steps at which ASHA compares."""
    evaluations = [*trial("a", 8), *trial("b", 3)]
    for searched in (False, True):
        (sweep,) = sweeps_of(eight, evaluations, None, searched, endings=lambda _: {"b": "stopped"})
        assert [each.fate for each in sweep.trials] == ["finished", "stopped"]


def test_a_sweep_is_over_when_the_next_has_begun(eight: Configuration) -> None:
    first, second = sweeps_of(eight, [*trial("a", 2), *trial("b", 1, sweep=Sweep.SCALES)], None, searched=False)
    assert (first.name, first.over, second.name, second.over) == ("SAFS", True, "stage 2", False)
    assert second.rungs == ()  # the grace period, 2 steps, is all that its trials have


def test_the_winner_is_the_best_that_reached_its_end(eight: Configuration) -> None:
    sweep = only(eight, [*trial("a", 8, 0.4), *trial("b", 8, 0.6), *trial("stopped", 4, 0.9)])
    assert sweep.winner.name == "b"
    sweep = only(eight, [*trial("a", 4, 0.4), *trial("b", 2, 0.6)], searched=False)
    assert sweep.winner.name == "b"


def test_the_results_tell_equally_good_trials_apart(eight: Configuration) -> None:
    evaluations = [*trial("a", 8, rate=0.1), *trial("b", 8, rate=0.2)]
    chosen = {"hyperparameters": Hyperparameters(learning_rate=0.2).model_dump()}
    assert only(eight, evaluations).winner.name == "a"
    assert only(eight, evaluations, results=chosen).winner.name == "b"


def test_the_winner_is_the_finalist_that_won_or_did_best_when_trained_again(eight: Configuration) -> None:
    evaluations = [*trial("a", 8, 0.9), *trial("b", 8, 0.6), *trial("c", 8, 0.5), *trial("d", 8, 0.55)]
    means = {"a": 0.1, "b": 0.5, "c": 0.7}
    finalists: dict[str, dict[str, dict[str, Any]]]
    finalists = {"SAFS": {name: {"validation_accuracy": {"mean": mean}} for name, mean in means.items()}}
    assert only(eight, evaluations, results={"finalists": finalists}).winner.name == "c"
    finalists["SAFS"]["b"]["won"] = True
    assert only(eight, evaluations, results={"finalists": finalists}).winner.name == "b"
    assert only(eight, evaluations, results={"finalists": {"stage 2": finalists["SAFS"]}}).winner.name == "a"


def test_steps_are_in_order_whatever_the_order_of_arrival(eight: Configuration) -> None:
    sweep = only(eight, [step("a", 1), step("b", 0), step("a", 0)])
    assert [each.iteration for each in sweep.trials[0].evaluations] == [0, 1]


def test_without_a_scheduler_there_are_no_rungs(eight: Configuration) -> None:
    free = eight.model_copy(update={"tune": eight.tune.model_copy(update={"scheduler": "none"})})
    assert only(free, trial("a", 8)).rungs == ()


def test_chains_of_stage_1_are_not_compared() -> None:
    staged = config.validate({"search": {"protocol": "staged", "steps": 8, "chains": 2}, "tune": {"grace_period": 2}})
    sweep = only(staged, trial("chain-0", 8, sweep=Sweep.OPERATORS))
    assert (sweep.rungs, sweep.planned, sweep.trials[0].fate) == ((), 2, "finished")


def test_of_a_real_run(record: Record) -> None:
    (sweep,) = record.sweeps
    assert [(each.name, each.fate) for each in sweep.trials] == [
        ("first", "finished"),
        ("stopped", "stopped"),
        ("broken", "diverged"),
    ]
    assert sweep.winner.name == "first"
    assert len(sweep.winner.search) == 4
    assert sweep.winner.hyperparameters.learning_rate == 5e-3
    assert sweep.winner.best_assignment == sweep.winner.evaluations[-1].assignment
