from __future__ import annotations

import logging

import pytest
from ray.tune.experiment import Trial

from safs_ray.config import Configuration
from safs_ray.search.chain import joint
from safs_ray.tune.callbacks import SearchProgress

STEP = {
    "training_iteration": 5,
    "best_accuracy": 0.5,
    "validation_accuracy": 0.5,
    "phase": "fine-tuning",
    "fine_tuning": 1,
    "diverged": 0,
    "repeated": 0,
    "accepted": 1,
}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({}, "trial  1 ended after step 5: stopped by ASHA, weaker than others were there"),
        ({"diverged": 1}, "trial  1 ended after step 5: its fine-tuning diverged"),
        ({"diverged": 1, "fine_tuning": 0}, "trial  1 ended after step 5: stopped by ASHA"),
        ({"training_iteration": 6}, None),
    ],
)
def test_why_a_trial_ended_before_its_last_step(
    configuration: Configuration,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    step: dict[str, int],
    told: str | None,
) -> None:
    monkeypatch.setattr(logging.getLogger("safs_ray"), "propagate", True)
    caplog.set_level(logging.INFO, "safs_ray")
    progress, trial = SearchProgress(configuration, joint(configuration), 3), Trial("chain", stub=True)
    progress.setup()
    trial.update_last_result({**STEP, **step})
    progress.on_trial_result(0, [trial], trial, trial.last_result)
    caplog.clear()
    progress.on_trial_complete(0, [trial], trial)
    assert caplog.text == "" if told is None else told in caplog.text
