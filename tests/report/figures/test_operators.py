from __future__ import annotations

import pytest

from safs_ray.report.canvas import Figure
from safs_ray.report.figures import operators
from safs_ray.report.figures.operators import Success, successes
from safs_ray.report.record import Record
from safs_ray.report.sweeps import Trial
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation


def trial(*steps: tuple[tuple[str, str], float, bool]) -> Trial:
    return Trial(
        1,
        "a",
        tuple(
            Evaluation(
                Sweep.SAFS, "a", index, "search", "", assignment, "{}", 1, 0, accuracy, 0, 0, True, False, repeated, 0
            )
            for index, (assignment, accuracy, repeated) in enumerate(steps)
        ),
        "finished",
    )


def test_successes_by_hand() -> None:
    """The first trial's mean is 0.5, the second's 0.9: what it gains counts, not how good its hyperparameters are."""
    first = trial((("relu", "relu"), 0.4, False), (("tanh", "relu"), 0.6, False), (("tanh", "relu"), 0.6, True))
    second = trial((("relu", "tanh"), 0.9, False))
    found = successes([first, second])
    assert found["relu", 0] == Success(pytest.approx(-5), 2)
    assert found["tanh", 0] == Success(pytest.approx(10), 1)
    assert found["relu", 1] == Success(pytest.approx(0), 2)
    assert found["tanh", None] == Success(pytest.approx(5), 2)
    assert found["relu", None] == Success(pytest.approx(-2.5), 4)


def test_of_a_real_run_every_operator_that_was_tried_has_a_row(record: Record) -> None:
    figure = operators.draw(record)
    assert isinstance(figure, Figure)
    ((svg, _),) = figure.drawings()
    for evaluation in record.evaluations:
        for operator in evaluation.assignment:
            assert f">{operator}</text>" in svg
    assert ">any site</text>" in svg
    assert ">act1</text>" in svg
