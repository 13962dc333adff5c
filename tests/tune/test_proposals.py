from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safs_ray.config import Configuration, Hyperparameters, validate
from safs_ray.search import space
from safs_ray.search.course import Sweep, joint
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.hyperparameters import search_space
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.proposals import METRIC, START, TRIAL, Proposals

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


def proposals(configuration: Configuration, folder: Path) -> Proposals:
    """Those of a sweep whose journal lies in the folder and whose records are all there."""
    journal = Journal(Folder.at(folder), Sweep.SAFS)
    course = joint(configuration)
    kept = [
        evaluation(course.trial(number), iteration)
        for number, entry in enumerate(journal.entries)
        for iteration in range(entry.steps)
    ]
    return Proposals(Past(course, journal, kept), 16, search_space(configuration), lambda: None)


def evaluation(trial: str, iteration: int) -> Evaluation:
    return Evaluation(
        Sweep.SAFS, trial, iteration, "search", "k", ("relu",), "{}", 1, 0, 0.5, 0.5, 0.5,
        accepted=True, diverged=False, repeated=False, core_seconds=1.0,
    )  # fmt: skip


def propose(searcher: Proposals, numbers: range, goal: float = 0.01) -> list[Hyperparameters]:
    """Proposals of a searcher that is told of every trial before it makes the next."""
    found = []
    for number in numbers:
        config: Any = searcher.suggest(f"id {number}")
        assert config[TRIAL] == f"trial-{number + 1}"
        found.append(Hyperparameters(**config["hyperparameters"]))
        accuracy = 1 - abs(found[-1].learning_rate - goal)
        result = {METRIC: accuracy, "done": True, "training_iteration": 3, "fine_tuning": 0, "diverged": 0}
        searcher.on_trial_complete(f"id {number}", result)
    return found


@pytest.mark.parametrize("narrowed", NARROWED.values(), ids=NARROWED)
@pytest.mark.parametrize("searcher", ["hyperopt", "random"])
def test_every_proposal_lies_in_the_space_and_the_first_is_the_default(
    searcher: str, narrowed: dict[str, Any], tmp_path: Path
) -> None:
    configuration = configured(searcher, narrowed)
    section = configuration.tune.space
    found = propose(proposals(configuration, tmp_path), range(16))
    assert found[0] == space.nearest(configuration.pruning.hyperparameters, section)
    assert all(space.nearest(chosen, section) == chosen for chosen in found)


def test_hyperopt_learns_from_trials_and_random_does_not(tmp_path: Path) -> None:
    def found(searcher: str, goal: float) -> list[Hyperparameters]:
        return propose(proposals(configured(searcher, {}), tmp_path / searcher / str(goal)), range(16), goal)

    random, again = (found("random", goal) for goal in (0.01, 0.1))
    assert random == again
    low, high = (found("hyperopt", goal) for goal in (0.01, 0.1))
    assert low[:4] == high[:4] == random[:4], "the first proposals of TPE are random too"
    assert low[4:] != high[4:]


@pytest.mark.parametrize("searcher", ["hyperopt", "random"])
def test_proposals_go_on_exactly_and_another_seed_differs(searcher: str, tmp_path: Path) -> None:
    configuration = configured(searcher, {})
    expected = propose(proposals(configuration, tmp_path / "whole"), range(12))
    begun = propose(proposals(configuration, tmp_path / "begun"), range(7))
    assert begun + propose(proposals(configuration, tmp_path / "begun"), range(7, 12)) == expected
    other = propose(proposals(configured(searcher, {}, seed=1), tmp_path / "other"), range(12))
    assert other[0] == expected[0]
    assert not {str(chosen) for chosen in other[1:]} & {str(chosen) for chosen in expected[1:]}


def test_what_was_under_way_comes_first_and_what_failed_has_not_ended(tmp_path: Path) -> None:
    configuration = configured("random", {})
    first = proposals(configuration, tmp_path)
    begun = [first.suggest(name) for name in "abc"]
    first.on_trial_complete("b", error=True)
    first.on_trial_complete("c")  # an interruption
    second = proposals(configuration, tmp_path)
    assert [second.suggest(name) for name in "abc"] == begun
    assert second.suggest("d") not in begun


def test_a_trial_starts_where_others_have_come_to_and_again_when_it_is_resumed(tmp_path: Path) -> None:
    configuration = configured("random", {})
    past = Past(joint(configuration), Journal(Folder.at(tmp_path), Sweep.SAFS), [])
    best = iter([None, ("relu", "tanh")])
    first = Proposals(past, 2, search_space(configuration), lambda: next(best))
    begun: list[Any] = [first.suggest(name) for name in "ab"]
    assert [config.get(START) for config in begun] == [None, "relu,tanh"]
    assert [proposals(configuration, tmp_path).suggest("a")] == begun[:1]
    resumed = proposals(configuration, tmp_path)
    assert [resumed.suggest(name) for name in "ab"] == begun


def test_no_more_trials_than_asked_for(tmp_path: Path) -> None:
    searcher = proposals(configured("random", {}), tmp_path)
    propose(searcher, range(16))
    assert searcher.suggest("one more") == Proposals.FINISHED


@pytest.mark.parametrize(
    ("result", "ending"),
    [
        ({"training_iteration": 3, "fine_tuning": 0, "diverged": 1}, "stopped"),
        ({"training_iteration": 9, "fine_tuning": 1, "diverged": 1}, "diverged"),
        ({"training_iteration": 1000, "fine_tuning": 1, "diverged": 0}, "finished"),
    ],
)
def test_how_a_trial_ended_is_on_storage_at_once(tmp_path: Path, result: dict[str, Any], ending: str) -> None:
    configuration = configured("random", {})
    searcher = proposals(configuration, tmp_path)
    searcher.suggest("a")
    steps = min(result["training_iteration"], joint(configuration).steps)
    searcher.on_trial_complete("a", {METRIC: 0.25, "done": True, **result, "training_iteration": steps})
    (entry,) = Journal(Folder.at(tmp_path), Sweep.SAFS).entries
    assert (entry.ended, entry.steps, entry.accuracy) == (ending, steps, 0.25)
