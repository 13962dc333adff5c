from __future__ import annotations

from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import halving
from safs_ray.report.record import Record


def test_trials_and_rungs(record: Record) -> None:
    figure = halving.draw(record)
    assert isinstance(figure, Figure)
    trials, rungs, key = figure.panels
    assert rungs.title == ("SAFS, trials that reached each rung: step 2: 3 trials; step 4: 2 trials; step 6: 1 trial")
    assert "3 came, 1 stopped" in figure.drawings()[1][0]
    assert "trial 2" in figure.drawings()[0][0]
    assert key.title == "Key: the winner; reached its end; stopped by ASHA; diverged or failed"
    assert "SAFS" in trials.title


def test_while_the_search_runs_ends_are_open(unfinished: Record) -> None:
    figure = halving.draw(unfinished)
    assert isinstance(figure, Figure)
    assert "still running, or stopped there" in figure.panels[-1].title


def test_without_evaluations_it_says_so(bare: Record) -> None:
    assert isinstance(halving.draw(bare), Absent)
