from __future__ import annotations

from dataclasses import replace

import pytest

from safs_ray import config
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import trajectories
from safs_ray.report.figures.trajectories import current, limits
from safs_ray.report.record import Record
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation


def evaluations(*steps: tuple[float, bool]) -> list[Evaluation]:
    return [
        Evaluation(Sweep.SAFS, "a", index, "search", "", ("relu",), "{}", 1, 0, accuracy, 0, 1 - accuracy, accepted,
                   False, False, 0.0)
        for index, (accuracy, accepted) in enumerate(steps)
    ]  # fmt: skip


STEPS = evaluations((0.5, True), (0.6, True), (0.5, True), (0.4, False), (0.55, True), (0.1, False))


def test_the_current_assignment_is_the_one_accepted_last() -> None:
    assert current(STEPS, 1) == pytest.approx([50, 60, 50, 50, 55, 55])


def test_walks_that_take_turns_each_have_a_current_assignment_and_a_limit_of_their_own() -> None:
    """The first walk has 50, 50 and 55, the second 60, 40 (rejected) and 10 (rejected)."""
    turns = evaluations((0.5, True), (0.6, True), (0.5, True), (0.4, False), (0.55, True), (0.1, False))
    assert current(turns, 2) == pytest.approx([50, 60, 50, 60, 55, 60])
    run = config.validate({"search": {"lahc": {"history": 2, "walks": 2}}})
    found = limits(turns, run)
    assert found[0] != found[0]
    assert found[1] != found[1]
    assert found[2:] == pytest.approx([50, 60, 50, 60])


def test_limits_of_late_acceptance_by_hand() -> None:
    """History of 2: after the start 50 50; 60 enters its first place, 50 its second, 50 the first, 55 the second."""
    run = config.validate({"search": {"lahc": {"history": 2}}})
    found = limits(STEPS, run)
    assert found[0] != found[0]
    assert found[1:] == pytest.approx([50, 50, 50, 50, 50])
    # Late acceptance: after 60 and 60 the limit of the third is still the 50 of two steps before, then it rises.
    risen = limits(evaluations((0.5, True), (0.6, True), (0.7, True), (0.65, True), (0.1, False)), run)
    assert risen[1:] == pytest.approx([50, 50, 60, 65])


def test_what_was_recorded_agrees_with_the_limits(record: Record) -> None:
    for trial in record.sweeps[0].trials:
        found = limits(trial.search, record.configuration)
        for evaluation, limit in zip(trial.search[1:], found[1:], strict=True):
            accuracy = 100 * (1 - evaluation.cost)
            assert evaluation.accepted == (accuracy >= limit or accuracy == pytest.approx(limit))


def test_a_panel_for_every_trial_and_the_winner_is_marked(record: Record) -> None:
    figure = trajectories.draw(record)
    assert isinstance(figure, Figure)
    assert [panel.title.partition(":")[0] for panel in figure.panels[:3]] == [
        "SAFS, trial 1", "SAFS, trial 2", "SAFS, trial 3"
    ]  # fmt: skip
    drawings = [svg for svg, _ in figure.drawings()]
    assert "★ 1" in drawings[0]
    assert "stopped" in drawings[1]
    assert "diverged" in drawings[2]
    assert "late acceptance" in figure.caption.lower()


def test_other_strategies_have_no_limit(record: Record) -> None:
    section = record.configuration.search.model_copy(update={"strategy": "random"})
    other = replace(record, configuration=record.configuration.model_copy(update={"search": section}))
    figure = trajectories.draw(other)
    assert isinstance(figure, Figure)
    assert "acceptance" not in figure.caption


def test_without_evaluations_it_says_so(bare: Record) -> None:
    assert isinstance(trajectories.draw(bare), Absent)
