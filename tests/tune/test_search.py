from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.config import Configuration
from safs_ray.experiment import FailedSearchError
from safs_ray.search.course import Sweep, joint
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.sweep import _outcomes
from tests.experiment.executors import FOUND
from tests.tune.past import past


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path)


def test_outcomes_of_a_sweep_are_of_the_trials_that_reached_their_end(
    configuration: Configuration, folder: Folder
) -> None:
    sweep = past(configuration, folder)
    assert _outcomes(sweep, []) == list(FOUND)
    sweep = past(configuration, folder / "other")
    steps = joint(configuration).steps
    sweep.journal.end(1, "stopped", steps, 0.9)
    sweep.journal.end(3, "diverged", steps, 0.9)
    assert _outcomes(sweep, []) == [FOUND[0], FOUND[2]]


def test_outcomes_of_a_sweep_whose_budget_has_ended_are_of_what_its_trials_have_found_until_then(
    configuration: Configuration, folder: Folder
) -> None:
    sweep, none = past(configuration, folder), Past(joint(configuration), Journal(folder / "none", Sweep.SAFS), [])
    sweep.journal.end(1, "cut", 3, 0.9)
    assert _outcomes(sweep, [], budget_ended=True) == list(FOUND)
    assert _outcomes(none, [], budget_ended=True) == []


def test_outcomes_of_stage_1_learn_no_scales(configuration: Configuration, folder: Folder) -> None:
    sweep = past(configuration, folder, Sweep.OPERATORS)
    assert [outcome.trial for outcome in _outcomes(sweep, [])] == ["chain-1", "chain-2", "chain-3", "chain-4"]
    assert not any(outcome.recipe.learn_scales for outcome in _outcomes(sweep, []))


def test_a_sweep_none_of_whose_trials_reached_its_end_has_failed(configuration: Configuration, folder: Folder) -> None:
    sweep, steps = past(configuration, folder), joint(configuration).steps
    for number in range(len(FOUND)):
        sweep.journal.end(number, "stopped", steps, 0.9)
    with pytest.raises(FailedSearchError, match=r"^SAFS: none of 4 trials reached its end; 0 failed$"):
        _outcomes(sweep, [])
    cause = ValueError("no such device\nhere")
    with pytest.raises(FailedSearchError, match=r"end; 0 failed \(ValueError: no such device\)$") as failed:
        _outcomes(sweep, [cause])
    assert failed.value.__cause__ is cause
    lost = OSError(28, "No space left on device")
    with pytest.raises(FailedSearchError, match="No space left on device") as failed:
        _outcomes(sweep, [cause, lost])
    assert failed.value.__cause__ is lost, "what may pass is told, so that the run is gone on with"
    sweep.journal.end(3, "finished", steps, 0.1)
    assert _outcomes(sweep, []) == [FOUND[3]]
