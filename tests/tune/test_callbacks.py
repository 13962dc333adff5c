from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ray.tune.experiment import Trial

from safs_ray.config import Configuration
from safs_ray.search.course import Sweep, joint
from safs_ray.storage import Folder
from safs_ray.tune.callbacks import SearchProgress
from safs_ray.tune.journal import Journal, Past

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


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({}, "trial-1  ended after step 5: stopped by ASHA, weaker than others were there"),
        ({"diverged": 1}, "trial-1  ended after step 5: its fine-tuning diverged"),
        ({"diverged": 1, "fine_tuning": 0}, "trial-1  ended after step 5: stopped by ASHA"),
        ({"training_iteration": 6}, None),
    ],
)
def test_why_a_trial_ended_before_its_last_step(
    configuration: Configuration,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    step: dict[str, int],
    told: str | None,
) -> None:
    monkeypatch.setattr(logging.getLogger("safs_ray"), "propagate", True)
    caplog.set_level(logging.INFO, "safs_ray")
    past = Past(joint(configuration), Journal(Folder.at(tmp_path), Sweep.SAFS), [])
    progress, trial = (
        SearchProgress(configuration, past, 3),
        Trial("chain", stub=True, trial_name_creator=lambda _: "trial-1"),
    )
    progress.setup()
    trial.update_last_result({**STEP, **step})
    progress.on_trial_result(0, [trial], trial, trial.last_result)
    caplog.clear()
    progress.on_trial_complete(0, [trial], trial)
    assert caplog.text == "" if told is None else told in caplog.text
