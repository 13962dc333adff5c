from __future__ import annotations

from typing import Any

import pytest

from safs_ray.config import Configuration
from safs_ray.experiment import Stage
from safs_ray.experiment.progress import Clock, StageProgress, SweepProgress
from safs_ray.log import EVENT
from safs_ray.search.course import joint
from safs_ray.stages import Result
from safs_ray.training import Context
from tests.stages.altered import changed

STEP = {
    "phase": "search", "assignment": "relu,relu", "validation_accuracy": 0.25, "best_accuracy": 0.5, "cost": 0.75,
    "accepted": 1, "repeated": 0, "diverged": 0,
}  # fmt: skip


class Watch:
    """A clock that a test sets."""

    now = 100.0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr("time.monotonic", lambda: watch.now)
    return watch


@pytest.fixture
def sweep(configuration: Configuration) -> Configuration:
    """Three trials of 4 evaluations of 1 epoch and 2 stretches of 2; none is stopped."""
    return changed(configuration, "tune", scheduler="none")


def stage(name: str, epochs: int) -> Stage:
    def make(_: Result | None, context: Context) -> Result:
        raise NotImplementedError

    return Stage(name, epochs, make)


def test_clock_believes_its_forecast_at_first(watch: Watch) -> None:
    clock = Clock({"dense": 40.0, "SAFS": 60.0})
    assert (clock.seconds_left, clock.left("dense"), clock.words()) == (100, 40, "2 min left")
    watch.now += 10
    clock.advance("dense", 10)
    assert clock.seconds_left == pytest.approx(90)
    assert clock.left("dense") == 30


def test_clock_follows_the_pace_of_late(watch: Watch) -> None:
    clock = Clock({"SAFS": 100.0})
    for _ in range(50):
        watch.now += 2
        clock.advance("SAFS", 1)
    assert 75 < clock.seconds_left < 100, "half is left, and takes nearly twice as long as forecast"
    for _ in range(40):
        watch.now += 2
        clock.advance("SAFS", 1)
    assert clock.seconds_left == pytest.approx(20, rel=0.1), "a tenth is left"


def test_clock_does_not_count_what_needs_not_be_done(watch: Watch) -> None:
    clock = Clock({"dense": 40.0, "SAFS": 60.0})
    watch.now += 1000
    clock.expect("dense", 0)
    assert clock.seconds_left == 60
    clock.expect("unknown", 7)
    assert clock.seconds_left == 60


def test_clock_without_a_forecast_says_nothing() -> None:
    clock = Clock({})
    clock.advance("dense", 1)
    assert (clock.seconds_left, clock.words()) == (0, "")


def test_progress_of_a_stage_that_goes_on_counts_only_what_is_left(
    watch: Watch, told: pytest.LogCaptureFixture
) -> None:
    clock = Clock({"final": 300.0})
    progress = StageProgress([stage(f"final/SAFS/fold-{fold}", 10) for fold in range(3)], clock)
    progress.skip("final/SAFS/fold-0")
    assert clock.left("final") == 200
    watch.now += 10
    progress.epoch("final/SAFS/fold-1", 8, 0.5)
    assert clock.left("final") == 120, "its first eight epochs, of which seven were done before"
    watch.now += 10
    progress.epoch("final/SAFS/fold-1", 9, 0.5)
    assert told.messages[-1].startswith("final/SAFS/fold-1 epoch   9 of  10   validation  50.0 %   ")
    event = told.records[-1].__dict__[EVENT]
    assert (event["event"], event["epoch"], event["epochs"]) == ("epoch", 9, 10)
    assert event["seconds_left"] == pytest.approx(110, rel=0.05)


def test_progress_of_a_stage_is_a_line_in_five_seconds_and_one_at_its_end(
    watch: Watch, told: pytest.LogCaptureFixture
) -> None:
    progress = StageProgress([stage("dense", 12)], Clock({"dense": 12.0}))
    for epoch in range(1, 13):
        watch.now += 1
        progress.epoch("dense", epoch, 0.5)
    assert [int(line.split()[2]) for line in told.messages] == [6, 11, 12]


def test_progress_of_a_stage_drops_late_news_of_one_before(watch: Watch, told: pytest.LogCaptureFixture) -> None:
    clock = Clock({"dense": 4.0, "pruned": 6.0})
    progress = StageProgress([stage("pruned", 6)], clock)
    watch.now += 2
    progress.skip("dense")
    progress.epoch("dense", 4, 0.5)
    assert (clock.left("dense"), clock.left("pruned"), told.records) == (4, 6, [])


def test_progress_of_a_stage_counts_no_epoch_twice_whose_news_come_out_of_order(watch: Watch) -> None:
    clock = Clock({"final": 100.0})
    progress = StageProgress([stage("final/SAFS/fold-0", 10)], clock)
    for epoch in (1, 3, 2, 3):
        watch.now += 10
        progress.epoch("final/SAFS/fold-0", epoch, 0.5)
    assert clock.left("final") == 70
    progress.late("final/SAFS/fold-0", 5, 0.5)
    progress.late("final/SAFS/fold-0", 4, 0.5)
    assert clock.left("final") == 50


def test_progress_of_a_sweep_counts_trials_that_wait(
    sweep: Configuration, watch: Watch, told: pytest.LogCaptureFixture
) -> None:
    clock = Clock({"SAFS": 24.0, "final": 6.0})
    progress = SweepProgress(sweep, joint(sweep), 3, clock, told={"trial-2": 4})  # 3 x 8 epochs, a second each
    for step in range(1, 7):
        watch.now += 1 if step <= 4 else 2
        progress.step("trial-1", step, STEP)
    assert clock.left("SAFS") == 16
    progress.end("trial-1", "")
    assert clock.left("SAFS") == 16
    progress.step("trial-2", 4, STEP, recorded=True)
    assert clock.left("SAFS") == 12, "what was recorded before takes no time"
    assert clock.seconds_left == pytest.approx(18)
    progress.end("trial-2", "stopped by ASHA, weaker than others were there")
    assert clock.left("SAFS") == 8
    assert told.messages[-1] == "trial-2  ended after step 4: stopped by ASHA, weaker than others were there"
    assert len(told.messages) == 7, "and a line for each step that was taken now"
    assert "trial-1  of 3  step  1 of  6  search       validation  25.0 %  trial  50.0 %  best  50.0 %" in told.text


def test_progress_tells_of_a_step_that_a_process_took_before_it_died(
    sweep: Configuration, watch: Watch, told: pytest.LogCaptureFixture
) -> None:
    clock = Clock({"SAFS": 24.0})
    progress = SweepProgress(sweep, joint(sweep), 3, clock)
    watch.now += 1
    progress.step("trial-1", 1, STEP)
    watch.now += 100
    for step in (1, 2):
        progress.step("trial-1", step, STEP, recorded=True)
    assert len(told.messages) == 2, "step 1 is not told again"
    assert clock.seconds_left == pytest.approx(22), "and the time that was lost is no pace"


def test_progress_of_a_sweep_that_goes_on_believes_the_forecast_of_what_is_left(sweep: Configuration) -> None:
    clock = Clock({"SAFS": 8.0})
    progress = SweepProgress(sweep, joint(sweep), 3, clock, done=2)
    assert clock.left("SAFS") == 8
    progress.step("trial-3", 4, STEP)
    assert clock.left("SAFS") == 4


@pytest.mark.parametrize(
    ("news", "verdict"), [({}, "accepted"), ({"accepted": 0}, "rejected"), ({"repeated": 1}, "known"),
                          ({"diverged": 1}, "diverged")],
)  # fmt: skip
def test_progress_says_how_a_step_went(
    sweep: Configuration, told: pytest.LogCaptureFixture, news: dict[str, Any], verdict: str
) -> None:
    SweepProgress(sweep, joint(sweep), 3, Clock({})).step("trial-1", 1, {**STEP, **news})
    assert f"best  50.0 %  {verdict} " in told.text
