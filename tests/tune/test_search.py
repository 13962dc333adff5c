from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safs_ray.config import Configuration, Hyperparameters, validate
from safs_ray.tune import space
from safs_ray.tune.search import METRIC, _searcher

NARROWED = {
    "published": {},
    "one optimizer": {"optimizers": ["adamw"]},
    "all fixed": {"optimizers": ["adam"], "adam": {"learning_rate": [1e-2, 1e-2], "weight_decay": [1e-4, 1e-4]}},
    "fixed at a limit": {
        "optimizers": ["sgd", "tadam"],
        "sgd": {"learning_rate": [10, 10], "momentum": [0, 0], "schedules": ["step"]},
    },
    "without the default": {"optimizers": ["fromage", "sgd"], "fromage": {"learning_rate": [1e-2, 3e-2]}},
}


def configured(searcher: str, narrowed: dict[str, Any], seed: int = 0) -> Configuration:
    return validate({"run": {"seed": seed}, "tune": {"trials": 16, "searcher": searcher, "space": narrowed}})


def propose(searcher: Any, numbers: range, goal: float = 0.01) -> list[Hyperparameters]:
    """Proposals of a searcher that is told of every trial before it makes the next."""
    found = []
    for number in numbers:
        found.append(space.hyperparameters(searcher.suggest(f"trial {number}"), Hyperparameters()))
        searcher.on_trial_complete(f"trial {number}", {METRIC: 1 - abs(found[-1].learning_rate - goal)})
    return found


@pytest.mark.parametrize("narrowed", NARROWED.values(), ids=NARROWED)
@pytest.mark.parametrize("searcher", ["hyperopt", "random"])
def test_every_proposal_lies_in_the_space_and_the_first_is_the_default(searcher: str, narrowed: dict[str, Any]) -> None:
    configuration = configured(searcher, narrowed)
    section = configuration.tune.space
    found = propose(_searcher(configuration), range(16))
    assert found[0] == space.nearest(configuration.pruning.hyperparameters, section)
    assert all(space.nearest(chosen, section) == chosen for chosen in found)


def test_hyperopt_learns_from_trials_and_random_does_not() -> None:
    random, again = (propose(_searcher(configured("random", {})), range(16), goal) for goal in (0.01, 0.1))
    assert random == again
    low, high = (propose(_searcher(configured("hyperopt", {})), range(16), goal) for goal in (0.01, 0.1))
    assert low[:4] == high[:4] == random[:4], "the first proposals of TPE are random too"
    assert low[4:] != high[4:]


@pytest.mark.parametrize("searcher", ["hyperopt", "random"])
def test_a_searcher_goes_on_exactly_and_another_seed_differs(searcher: str, tmp_path: Path) -> None:
    configuration = configured(searcher, {})
    expected = propose(_searcher(configuration), range(12))
    first = _searcher(configuration)
    begun = propose(first, range(7))
    first.save(str(tmp_path / "searcher"))
    second = _searcher(configuration)
    second.restore(str(tmp_path / "searcher"))
    assert begun + propose(second, range(7, 12)) == expected
    other = propose(_searcher(configured(searcher, {}, seed=1)), range(12))
    assert other[0] == expected[0]
    assert not {str(chosen) for chosen in other[1:]} & {str(chosen) for chosen in expected[1:]}
