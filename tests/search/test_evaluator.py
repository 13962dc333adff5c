from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from safs_ray.config import Configuration, Hyperparameters, validate
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Claimed, Evaluation, Ledger, Score, evaluate
from safs_ray.search.evaluator import Evaluator
from safs_ray.stages import Result
from safs_ray.training import Context, Training

CHOSEN = Hyperparameters(learning_rate=5e-3, batch_size=32)
CANDIDATES: list[Assignment] = [("relu", "tanh"), ("swish", "srs"), ("tanh", "tanh"), ("srs", "relu")]


class Claims(Ledger):
    """A memory that knows who is at which evaluation.

    Attributes:
        others: keys of the evaluations that another trial trains.
        asked: keys in the order in which they were claimed.
        held: keys that were claimed and not released.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: set[str] = set()
        self.asked: list[str] = []
        self.held: set[str] = set()

    def claim(self, key: str) -> Claimed:
        self.asked.append(key)
        claimed = "another's" if key in self.others else super().claim(key)
        if claimed == "mine":
            self.held.add(key)
        return claimed

    def release(self, key: str) -> None:
        self.held.discard(key)


@pytest.fixture
def together(configuration: Configuration, splits: Splits) -> Context:
    """One whose networks can be trained side by side."""
    values = configuration.model_dump(mode="json")
    values["run"]["execution"] = "sparse"
    return Context(validate(values), splits)


@pytest.fixture
def claims() -> Claims:
    return Claims()


@pytest.fixture
def evaluator(pruned: Result, together: Context, claims: Claims) -> Evaluator:
    return Evaluator(pruned.network, Training(together, CHOSEN, 1, 0), claims)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many candidates each call trains."""
    found: list[int] = []

    def counted(network: Network, candidates: Sequence[Assignment], training: Training) -> list[Score]:
        found.append(len(candidates))
        return evaluate(network, candidates, training)

    monkeypatch.setattr("safs_ray.search.evaluator.evaluate", counted)
    return found


def coming(*candidates: Assignment) -> Callable[[int], Sequence[Assignment]]:
    return lambda most: candidates[:most]


def untimed(score: Score) -> Score:
    return replace(score, core_seconds=0.0)


def recorded(evaluator: Evaluator, candidate: Assignment, score: Score) -> Evaluation:
    return Evaluation(
        Sweep.SAFS, "another", 0, "search", evaluator.key(candidate), candidate, "{}", 1, 0, score.validation_accuracy,
        score.validation_accuracy, score.cost, accepted=True, diverged=score.diverged, repeated=False,
        core_seconds=score.core_seconds, curve=score.curve,
    )  # fmt: skip


def test_the_evaluator_takes_from_the_memory_what_is_known(
    evaluator: Evaluator, claims: Claims, sizes: list[int]
) -> None:
    first = CANDIDATES[0]
    [trained] = evaluate(evaluator.network, [first], evaluator.training)
    claims.record(recorded(evaluator, first, trained))
    expected = replace(trained, core_seconds=0.0, repeated=True)
    assert evaluator.score(first, coming(first)) == expected
    assert sizes == []


def test_the_evaluator_trains_those_that_come_next_and_has_them_when_they_come(
    evaluator: Evaluator, sizes: list[int]
) -> None:
    alone = [evaluate(evaluator.network, [candidate], evaluator.training)[0] for candidate in CANDIDATES]
    found = [evaluator.score(candidate, coming(*CANDIDATES[place:])) for place, candidate in enumerate(CANDIDATES)]
    assert [untimed(score) for score in found] == [untimed(score) for score in alone]
    assert sizes == [len(CANDIDATES)]
    assert all(score.core_seconds > 0 and not score.repeated for score in found)


def test_the_evaluator_trains_a_candidate_once_that_comes_twice(
    evaluator: Evaluator, claims: Claims, sizes: list[int]
) -> None:
    first, second, *_ = CANDIDATES
    found = evaluator.score(first, coming(first, second, first, second))
    assert sizes == [2]
    claims.record(recorded(evaluator, first, found))
    assert evaluator.score(second, coming(second, first)).repeated is False
    assert evaluator.score(first, coming(first)).repeated
    assert sizes == [2]


def test_the_evaluator_trains_nothing_ahead_that_is_known(
    evaluator: Evaluator, claims: Claims, sizes: list[int]
) -> None:
    first, known, last, _ = CANDIDATES
    [score] = evaluate(evaluator.network, [known], evaluator.training)
    claims.record(recorded(evaluator, known, score))
    evaluator.score(first, coming(first, known, last))
    assert sizes == [2]
    assert claims.held == {evaluator.key(last)}


def test_the_evaluator_trains_nothing_ahead_beyond_what_another_trial_trains(
    evaluator: Evaluator, claims: Claims, sizes: list[int]
) -> None:
    """It may come to wait for that one, and the other for those that follow."""
    first, second, third, fourth = CANDIDATES
    claims.others = {evaluator.key(third)}
    evaluator.score(first, coming(first, second, third, fourth))
    assert claims.asked == [evaluator.key(second), evaluator.key(third)]
    assert sizes == [2]


def test_the_evaluator_leaves_to_others_what_it_trained_ahead_and_does_not_want(
    evaluator: Evaluator, claims: Claims, sizes: list[int]
) -> None:
    first, *others = CANDIDATES
    evaluator.score(first, coming(*CANDIDATES))
    assert claims.held == {evaluator.key(candidate) for candidate in others}
    evaluator.release()
    assert claims.held == set()
    evaluator.score(others[0], coming(others[0]))
    assert sizes == [4, 1], "what was left is not had any more"


def test_the_evaluator_leaves_to_others_what_it_failed_to_train(
    evaluator: Evaluator, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> list[Score]:
        raise MemoryError("no room")

    monkeypatch.setattr("safs_ray.search.evaluator.evaluate", fails)
    with pytest.raises(MemoryError, match="no room"):
        evaluator.score(CANDIDATES[0], coming(*CANDIDATES))
    assert len(claims.asked) == 3
    assert claims.held == set()


def test_the_evaluator_trains_one_at_a_time_where_it_must_and_holds_nothing_else(
    pruned: Result, together: Context, claims: Claims, sizes: list[int]
) -> None:
    """A schedule that follows a network's own accuracy is for one alone."""
    plateau = CHOSEN.model_copy(update={"schedule": "plateau"})
    evaluator = Evaluator(pruned.network, Training(together, plateau, 1, 0), claims)
    alone = [evaluate(evaluator.network, [candidate], evaluator.training)[0] for candidate in CANDIDATES[:2]]
    found = [evaluator.score(candidate, coming(*CANDIDATES[place:])) for place, candidate in enumerate(CANDIDATES[:2])]
    assert [untimed(score) for score in found] == [untimed(score) for score in alone]
    assert sizes == [4, 1, 1], "it tries once"
    assert claims.held == set()


def test_the_evaluator_has_equal_keys_for_equal_evaluations(
    evaluator: Evaluator, pruned: Result, together: Context
) -> None:
    again = Evaluator(pruned.network, Training(together, CHOSEN, 1, 0), Ledger())
    longer = Evaluator(pruned.network, Training(together, CHOSEN, 2, 0), Ledger())
    first, second, *_ = CANDIDATES
    assert evaluator.key(first) == again.key(first) != longer.key(first)
    assert evaluator.key(first) != evaluator.key(second)
