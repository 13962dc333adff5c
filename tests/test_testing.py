"""Contracts: what is the package's own keeps them; what breaks one is told which."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from safs_ray.config import SearchSection, names
from safs_ray.pruning.scores import SCORES, Evidence
from safs_ray.search.assignment import Assignment
from safs_ray.search.random import RandomSearch
from safs_ray.search.strategy import make
from safs_ray.testing import check_score, check_strategy


@pytest.mark.parametrize("name", names.STRATEGIES)
def test_check_strategy_passes_those_of_the_package(name: str) -> None:
    def own(operators: Sequence[str], start: Assignment, seed: int) -> object:
        settings = {"genetic": {"population": 4}, "tpe": {"startup": 4}}
        search = SearchSection.model_validate({"strategy": name, "steps": 14, **settings})
        return make(search.model_copy(update={"operators": tuple(operators)}), start, seed)

    check_strategy(own)  # type: ignore[arg-type]


class Elsewhere(RandomSearch):
    """Begins with another assignment than it is given."""

    def ask(self) -> Assignment:
        asked = super().ask()
        return asked if self.iteration else ("srs",) * len(asked)


class Restless(RandomSearch):
    """Proposes something else each time that it is asked."""

    def ask(self) -> Assignment:
        first = super().ask()
        if not self.iteration:
            return first
        self._count = getattr(self, "_count", 0) + 1
        return tuple(random.Random(self._count).choices(("relu", "tanh"), k=len(first)))


class Undecided(RandomSearch):
    """Takes a cost that it did not ask for."""

    def tell(self, cost: float) -> bool:
        try:
            return super().tell(cost)
        except RuntimeError:
            return False


class Global(RandomSearch):
    """Draws from Python's own generator."""

    def ask(self) -> Assignment:
        random.random()
        return super().ask()


@pytest.mark.parametrize(
    ("strategy", "promise"),
    [
        (Elsewhere, "proposes srs,srs,srs,srs first; it must be the starting assignment"),
        (Restless, "proposes another candidate when it is asked again"),
        (Undecided, "accepts a cost before it was asked for a candidate"),
        (Global, "draws from a global random generator"),
        (lambda *_: 1 / 0, "raises ZeroDivisionError: division by zero"),
    ],
)
def test_check_strategy_names_the_promise_that_is_broken(strategy: Callable[..., RandomSearch], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_strategy(strategy)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_check_score_passes_those_of_the_package(score: Callable[[Evidence], dict[str, Tensor]]) -> None:
    check_score(score)


def magnitudes(evidence: Evidence) -> dict[str, Tensor]:
    return {name: weight.detach().abs() for name, weight in evidence.weights.items()}


def changing(evidence: Evidence) -> dict[str, Tensor]:
    scores = magnitudes(evidence)
    with torch.no_grad():
        evidence.weights["0.weight"].mul_(2)
    return scores


@pytest.mark.parametrize(
    ("score", "promise"),
    [
        (
            lambda evidence: {"0.weight": magnitudes(evidence)["0.weight"]},
            r"scores 0\.weight; it must score 0\.weight, 3",
        ),
        (
            lambda evidence: {name: score.sum() for name, score in magnitudes(evidence).items()},
            r"gives \(\) for 0\.wei",
        ),
        (lambda evidence: {name: score / 0 for name, score in magnitudes(evidence).items()}, "that are not finite"),
        (lambda evidence: dict(evidence.weights), "that still have a gradient"),
        (changing, "changes the network"),
        (
            lambda evidence: {n: torch.rand(s.shape) for n, s in magnitudes(evidence).items()},
            "gives different scores when",
        ),
        (lambda _: 1 / 0, "raises ZeroDivisionError: division by zero"),
    ],
)
def test_check_score_names_the_promise_that_is_broken(
    score: Callable[[Evidence], dict[str, Tensor]], promise: str
) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_score(score)
