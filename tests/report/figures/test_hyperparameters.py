from __future__ import annotations

import pytest

from safs_ray.config import Hyperparameters
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import hyperparameters
from safs_ray.report.figures.hyperparameters import axes_of
from safs_ray.report.record import Record
from safs_ray.report.sweeps import Trial
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation, canonical


def trial(accuracy: float, **chosen: object) -> Trial:
    text = canonical(Hyperparameters(**chosen))  # type: ignore[arg-type]
    step = Evaluation(
        Sweep.SAFS, "a", 0, "search", "", ("relu",), text, 1, 0, accuracy, accuracy, 0, True, False, False, 0
    )
    return Trial(1, "a", (step,), "finished")


def test_axes_by_hand() -> None:
    found = axes_of(
        [
            trial(0.2, optimizer="adam", learning_rate=1e-4, weight_decay=0.1),
            trial(0.6, optimizer="sgd", learning_rate=1e-3, weight_decay=0.1, momentum=0.5),
            trial(0.4, optimizer="tadam", learning_rate=1e-2, weight_decay=0.1),
        ]
    )
    assert [axis.name for axis in found] == ["optimizer", "learning rate", "momentum", "accuracy"]
    optimizer, rate, momentum, accuracy = found
    assert optimizer.heights == (0, 0.5, 1)
    assert optimizer.ticks == ((0, "adam"), (0.5, "sgd"), (1, "tadam"))
    assert rate.heights == pytest.approx((0, 0.5, 1))
    assert sorted(rate.ticks) == [(0, "0.0001"), (pytest.approx(0.5), "0.001"), (1, "0.01")]
    assert momentum.heights == (0, 1, 0)
    assert accuracy.heights == pytest.approx((0, 1, 0.5))
    assert accuracy.ticks == ((0, "20.0%"), (1, "60.0%"))


def test_equal_accuracies_lie_in_the_middle() -> None:
    accuracy = axes_of([trial(0.5, learning_rate=1e-3), trial(0.5, learning_rate=1e-2)])[-1]
    assert accuracy.heights == (0.5, 0.5)


def test_of_a_real_run_there_is_a_line_for_every_trial(record: Record, bare: Record) -> None:
    figure = hyperparameters.draw(record)
    assert isinstance(figure, Figure)
    svg = figure.drawings()[0][0]
    for number in (1, 2, 3):
        assert f"<title>trial {number}: optimizer" in svg
    assert isinstance(hyperparameters.draw(bare), Absent)
