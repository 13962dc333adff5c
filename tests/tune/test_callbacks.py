from __future__ import annotations

import pytest
from ray.tune.experiment import Trial

from safs_ray.config import Configuration
from safs_ray.experiment.progress import Clock, SweepProgress
from safs_ray.search.course import joint
from safs_ray.tune.callbacks import IdleWorkers, Progress

STEP = {
    "training_iteration": 5,
    "best_accuracy": 0.5,
    "validation_accuracy": 0.5,
    "phase": "fine-tuning",
    "fine_tuning": 1,
    "diverged": 0,
    "repeated": 0,
    "accepted": 1,
    "recorded": "now",
    "assignment": "relu,relu",
    "cost": 0.5,
}


@pytest.fixture
def progress(configuration: Configuration) -> Progress:
    course = joint(configuration)
    return Progress(SweepProgress(configuration, course, 3, Clock({}), told={"trial-1": 4}), course.steps)


@pytest.fixture
def trial() -> Trial:
    return Trial("chain", stub=True, trial_name_creator=lambda _: "trial-1")


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({}, "trial-1  ended after step 5: stopped by ASHA, weaker than others were there"),
        ({"diverged": 1}, "trial-1  ended after step 5: its fine-tuning diverged"),
        ({"diverged": 1, "fine_tuning": 0}, "trial-1  ended after step 5: stopped by ASHA"),
        ({"training_iteration": 6}, None),
    ],
)
def test_progress_is_told_why_a_trial_ended_before_its_last_step(
    progress: Progress, trial: Trial, told: pytest.LogCaptureFixture, step: dict[str, int], why: str | None
) -> None:
    trial.update_last_result({**STEP, **step})
    progress.on_trial_result(0, [trial], trial, trial.last_result)
    told.clear()
    progress.on_trial_complete(0, [trial], trial)
    assert told.text == "" if why is None else why in told.text


def test_progress_says_nothing_of_steps_that_were_recorded_before(
    progress: Progress, trial: Trial, told: pytest.LogCaptureFixture
) -> None:
    progress.on_trial_result(0, [trial], trial, {**STEP, "training_iteration": 4, "recorded": "before"})
    assert told.text == ""
    progress.on_trial_result(0, [trial], trial, {**STEP, "training_iteration": 6})
    assert "step  6 of  6  fine-tuning" in told.text


def test_progress_says_that_a_trial_has_failed(
    progress: Progress, trial: Trial, told: pytest.LogCaptureFixture
) -> None:
    progress.on_trial_error(0, [trial], trial)
    assert told.messages == ["trial-1  failed"]


@pytest.mark.parametrize(
    ("statuses", "filled"),
    [
        ([Trial.RUNNING, Trial.RUNNING, Trial.RUNNING], []),
        ([Trial.TERMINATED, Trial.RUNNING, Trial.RUNNING, Trial.PENDING], []),
        ([Trial.TERMINATED, Trial.RUNNING, Trial.RUNNING, Trial.RUNNING], [0]),
        ([Trial.TERMINATED, Trial.RUNNING, Trial.ERROR, Trial.TERMINATED], [2]),
        ([Trial.TERMINATED, Trial.TERMINATED, Trial.ERROR, Trial.TERMINATED], []),
    ],
)
def test_idle_workers_are_those_beside_the_last_trials(statuses: list[str], filled: list[int]) -> None:
    """Of four trials, of which three run at a time: while any may still begin, no worker is idle."""
    found: list[int] = []
    trials = [Trial("chain", stub=True) for _ in statuses]
    for trial, status in zip(trials, statuses, strict=True):
        trial.set_status(status)
    IdleWorkers(4, 3, found.append).on_step_end(0, trials)
    assert found == filled
