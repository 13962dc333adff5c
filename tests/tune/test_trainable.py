from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.search.course import joint
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune import trainable
from safs_ray.tune.board import open_board
from safs_ray.tune.proposals import TRIAL
from safs_ray.tune.trainable import FOLLOWED, Trial

TIMED = (
    FOLLOWED,
    "recorded",
    "time_",
    "timestamp",
    "date",
    "pid",
    "hostname",
    "node_ip",
    "trial_id",
    "iterations_since_restore",
)


def proposal(rate: float) -> dict[str, Any]:
    return {TRIAL: "trial-1", "hyperparameters": Hyperparameters(learning_rate=rate, batch_size=32).model_dump()}


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if not key.startswith(TIMED)}


class Factory:
    """Trials as Tune makes them, those that share a board named."""

    def __init__(self, configuration: Configuration, dataset: Dataset, pruned: Result, folder: Path) -> None:
        self._given: dict[str, Any] = {
            "arrays": dataset.without_test().arrays(),
            "network": pruned.network.to_arrays(),
            "configuration": configuration.model_dump(mode="json"),
            "course": joint(configuration),
            "checkpoints": Checkpoints(Folder.at(folder / "checkpoints")),
        }
        self._folder = folder
        self._boards: dict[str, Any] = {}

    def keep_every_epoch(self) -> None:
        self._given["checkpoints"] = replace(self._given["checkpoints"], seconds=0)

    def decide_after(self, *steps: int) -> None:
        self._given["decisions"] = steps

    def __call__(self, board: str, rate: float = 5e-3) -> tune.Trainable:
        if board not in self._boards:  # an actor lives as long as its first handle
            self._boards[board] = open_board(board, str(self._folder / board), str(self._folder / "nowhere"))
        kind = tune.with_parameters(Trial, **self._given, board=board)
        trial: tune.Trainable = kind(config=proposal(rate))
        return trial


@pytest.fixture
def factory(cluster: None, configuration: Configuration, dataset: Dataset, pruned: Result, tmp_path: Path) -> Factory:  # noqa: ARG001
    return Factory(configuration, dataset, pruned, tmp_path)


def run(trial: tune.Trainable) -> list[dict[str, Any]]:
    results = []
    while not results or not results[-1]["done"]:
        results.append(untimed(trial.train()))
    return results


def test_begun_again_in_both_phases_and_reused_equals_an_uninterrupted_trial(
    factory: Factory, configuration: Configuration
) -> None:
    expected = run(factory("whole"))
    assert len(expected) == configuration.iterations
    assert {result["fine_tuning"] for result in expected} == {0, 1}
    for done in (2, configuration.search.steps + 1):
        first = factory(f"stopped at {done}")
        for _ in range(done):
            first.train()
        second = factory(f"stopped at {done}", rate=0.01)
        assert second.reset(proposal(5e-3), storage=None), "an actor is reused for another trial"
        assert run(second) == expected


@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_a_trial_reports_its_steps_where_it_may_be_stopped_at_its_end_and_when_time_has_passed(
    factory: Factory, configuration: Configuration, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(trainable, "SECONDS_AT_ONCE", seconds)
    factory.decide_after(1, 3)
    whole, trial = run(factory("whole")), factory("in calls")
    calls = [trial.train_buffered()]
    while not calls[-1][-1]["done"]:
        calls.append(trial.train_buffered())
    alone, all_steps = [1] * configuration.iterations, [1, 2, 1, configuration.iterations - 4]
    assert [len(call) for call in calls] == (all_steps if seconds else alone)
    assert [untimed(result) for call in calls for result in call] == whole
    assert [FOLLOWED in result for call in calls for result in call] == [
        index + 1 < len(call) for call in calls for index in range(len(call))
    ]


def test_a_trial_that_was_begun_before_reports_what_is_recorded_before_it_goes_on(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainable, "SECONDS_AT_ONCE", math.inf)
    first = factory("begun")
    for _ in range(2):
        first.train()
    again = factory("begun")
    assert [result["recorded"] for result in again.train_buffered()] == ["before", "before"]
    assert [result["recorded"] for result in again.train_buffered()] == ["now", "now"], "up to the fine-tuning"


def test_a_step_that_fails_does_not_take_those_before_it_along(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainable, "SECONDS_AT_ONCE", math.inf)
    trial = factory("failing")
    whole = trial.step

    def step() -> dict[str, Any]:
        if trial._chain.iteration == 2:
            raise MemoryError("too many neurons")
        result: dict[str, Any] = whole()
        return result

    monkeypatch.setattr(trial, "step", step)
    assert len(trial.train_buffered()) == 2
    with pytest.raises(MemoryError, match="too many neurons"):
        trial.train_buffered()
    assert trial.reset(proposal(0.01), storage=None)
    monkeypatch.setattr(trial, "step", whole)
    assert trial.train_buffered(), "the next trial of the process knows nothing of it"


def test_an_actor_that_takes_another_trial_forgets_the_fine_tuning_of_the_last(
    factory: Factory, configuration: Configuration, tmp_path: Path
) -> None:
    factory.keep_every_epoch()
    trial = factory("forgetting")
    for _ in range(configuration.search.steps + 1):
        trial.train()
    states = Folder.at(tmp_path / "checkpoints")
    assert len(states.names()) == 1
    assert trial.reset(proposal(0.01), storage=None)
    assert states.names() == []
