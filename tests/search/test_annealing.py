from __future__ import annotations

import math

import pytest

from safs_ray.config import AnnealingSection
from safs_ray.search.annealing import Annealing

START = ("relu",) * 4


def annealing(hot: float, cold: float, steps: int = 20, seed: int = 0) -> Annealing:
    settings = AnnealingSection(initial_temperature=hot, final_temperature=cold)
    return Annealing(("relu", "tanh", "srs"), START, settings, steps, "redraw", seed)


def tell(search: Annealing, *costs: float) -> list[bool]:
    accepted = []
    for cost in costs:
        search.ask()
        accepted.append(search.tell(cost))
    return accepted


def test_it_cools_geometrically_over_the_budget_and_stays_cold_beyond() -> None:
    """Four evaluations: the start and three neighbours, at 100, 10 and 1."""
    search, temperatures = annealing(100, 1, steps=4), []
    for _ in range(6):
        tell(search, 0.5)
        temperatures.append(search.temperature)
    assert temperatures == pytest.approx([100, 10, 1, 1, 1, 1])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_budget_without_a_course_is_hot(steps: int) -> None:
    search = annealing(100, 1, steps)
    tell(search, 0.5)
    assert search.temperature == 100


def test_cold_it_only_climbs() -> None:
    assert tell(annealing(1e-6, 1e-6), 0.5, 0.5001, 0.5, 0.4, 0.45, 0.39) == [True, False, True, True, False, True]


def test_a_worse_neighbour_is_taken_as_often_as_the_rule_says() -> None:
    """A worsening of T ln 2 is taken half of the time."""
    taken = [tell(annealing(0.1, 0.1, seed=seed), 0.5, 0.5 + 0.1 * math.log(2))[1] for seed in range(400)]
    assert abs(sum(taken) - 200) < 30  # three deviations


def test_at_the_published_temperatures_nearly_everything_is_accepted() -> None:
    """The largest worsening there is, at the lowest temperature: exp(-1 / 10) = 0.905."""
    published = AnnealingSection()
    accepted = [
        tell(Annealing(("relu", "tanh"), START, published, 20, "redraw", seed), *([0.0, 1.0] * 10))
        for seed in range(50)
    ]
    assert sum(map(sum, accepted)) / 1000 > 0.98


def test_the_extremes_of_temperature_overflow_nothing() -> None:
    assert tell(annealing(1e12, 1e-6, steps=3), 0.0, 1.0, 0.5, 1.0) == [True, True, True, False]


def test_a_rejected_neighbour_is_not_built_upon() -> None:
    search = annealing(1e-6, 1e-6)
    tell(search, 0.1)
    for _ in range(20):
        assert sum(name != "relu" for name in search.ask()) == 1
        assert not search.tell(0.9)
