from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.experiment import Workers, forecast, forecasting, plan
from safs_ray.experiment.forecasting import SecondsPerEpoch, expected_steps, seconds_per_epoch
from safs_ray.search.course import joint, operators_only
from safs_ray.stages import Result
from tests.stages.altered import changed

TIMED = SecondsPerEpoch(dense=10.0, sparse=1.0, candidate=1.0)


@pytest.fixture
def unstopped(configuration: Configuration) -> Configuration:
    return changed(configuration, "tune", scheduler="none", max_concurrent=None)


def test_workers_share_trainings_and_one_training_has_one() -> None:
    workers = Workers(4, start=3)
    assert workers.seconds(0, 10) == 0
    assert workers.seconds(1, 10) == workers.seconds(4, 10) == 13
    assert workers.seconds(8, 10) == 23


def test_forecast_of_one_worker_is_every_epoch_at_its_price(unstopped: Configuration) -> None:
    planned = plan(unstopped)
    parts = forecast(unstopped, TIMED, Workers())
    assert parts == {
        "begin": 0,
        "dense": 10 * planned["dense training"],
        "pruned": planned["pruning"],
        "SAFS": planned["search"] + planned["fine-tuning"],
        "finalists/SAFS": pytest.approx(planned["finalists"] * 1.1),  # two folds of 0.2 validate it, not one
        "final": planned["final evaluation"],
        "end": 0,
    }


def test_forecast_of_several_workers(unstopped: Configuration) -> None:
    alone = forecast(unstopped, TIMED, Workers())
    parts = forecast(unstopped, TIMED, Workers(3, begin=7, start=2))
    assert parts["begin"] == 7
    assert parts["dense"] == alone["dense"] + 2, "one training has one worker"
    assert parts["SAFS"] == alone["SAFS"] / 3 + 2
    one = changed(unstopped, "tune", max_concurrent=1)
    assert forecast(one, TIMED, Workers(3))["SAFS"] == alone["SAFS"]


def test_forecast_of_searches_before_and_during_pruning_takes_higher_prices(unstopped: Configuration) -> None:
    gradual = changed(unstopped, "pruning", schedule="gradual")
    after, before, during = (
        forecast(changed(gradual, "search", when=when), TIMED, Workers()) for when in ("after", "before", "during")
    )
    assert before["SAFS"] == 10 * after["SAFS"]
    assert after["SAFS"] < during["SAFS"] < before["SAFS"], "the network is sparse for the last part of it"
    assert before["final"] == after["final"]
    assert during["final"] == pytest.approx(during["SAFS"] / after["SAFS"] * after["final"])
    assert before["pruned-found"] == before["pruned"]
    assert "pruned-found" not in after


def test_forecast_of_pruning_follows_what_is_left_of_the_network(unstopped: Configuration) -> None:
    """A nonzero costs as much as five weights of the dense network."""
    costs = changed(unstopped, "run", costs=[5.0, 24.0, 124.8])

    def price(**values: object) -> float:
        chosen = changed(costs, "pruning", sparsity=0.9, epochs=1, **values)
        return forecast(chosen, TIMED, Workers())["pruned"]

    assert price(schedule="one shot") == pytest.approx(1)
    sgd = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.1}
    assert price(schedule="gsm", until=0.75, hyperparameters=sgd) == pytest.approx(0.75 * 10 + 0.25)
    assert price(schedule="rigl", interval=50) == pytest.approx((10 + 49) / 50)
    shares = [0.1 + 0.9 * (1 - (moment + 0.5) / 50) ** 3 for moment in range(50)]
    expected = (sum(min(10, 1 + 50 * (share - 0.1)) for share in shares) + 50) / 100
    assert price(schedule="gradual", until=0.5) == pytest.approx(expected)
    assert price(schedule="iterative", fraction=0.5) / 4 == pytest.approx((10 + 8.5 + 2.25 + 1) / 4)


def test_forecast_of_a_network_that_came_pruned_has_no_stage_before_the_search(unstopped: Configuration) -> None:
    given = changed(unstopped, "model", pruned=True)
    assert list(forecast(given, TIMED, Workers())) == [
        "begin",
        "SAFS",
        "finalists/SAFS",
        "final",
        "end",
    ]


def test_forecast_measures_an_epoch(unstopped: Configuration, dense: Result, splits: Splits) -> None:
    parts = forecast(unstopped, seconds_per_epoch(unstopped, dense.network, splits), Workers())
    assert all(seconds > 0 for part, seconds in parts.items() if part not in ("begin", "end"))


def test_expected_steps_of_sweeps_that_stop_no_trial(unstopped: Configuration, configuration: Configuration) -> None:
    assert expected_steps(unstopped, joint(unstopped), 20) == [6]
    assert expected_steps(configuration, operators_only(configuration), 20) == [4]


def test_expected_steps_under_asha(configuration: Configuration) -> None:
    """With a reduction factor of 2 a sweep of many trials stops half of them at each rung, give or take the first."""
    halved = changed(configuration, "tune", grace_period=2, reduction_factor=2, trials=100)
    steps = expected_steps(halved, joint(halved), 100)
    assert set(steps) == {2, 4, 6}
    assert steps.count(2) / len(steps) == pytest.approx(0.5, abs=0.06)
    assert steps.count(6) / len(steps) == pytest.approx(0.25, abs=0.06)
    assert expected_steps(halved, joint(halved), 100) == steps, "the same however often it is asked"
    assert mean(expected_steps(halved, joint(halved), 1)) == 6, "one alone is weaker than nobody"


def test_forecast_is_of_a_network_in_which_no_layer_is_empty(configuration: Configuration, dense: Result) -> None:
    """Initial weights differ by layer so much that one ranking would leave none of the wide ones."""
    narrow = replace(
        dense.network,
        state={name: weight * (1e-6 if name == "fc1.weight" else 1) for name, weight in dense.network.state.items()},
    )
    chosen = changed(configuration, "pruning", allocation="global", sparsity=0.99)
    counts = [int(mask.sum()) for mask in forecasting._as_sparse(chosen, narrow).masks.values()]
    assert max(counts) - min(counts) <= 1
    auto = changed(configuration, "pruning", recipe="auto", sparsity=0.99)
    assert forecasting._as_sparse(auto, narrow).masks.keys() == narrow.prunable().keys()
