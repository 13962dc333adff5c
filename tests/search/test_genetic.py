from __future__ import annotations

from safs_ray.config import GeneticSection
from safs_ray.search.assignment import Assignment
from safs_ray.search.genetic import Genetic

OPERATORS = ("relu", "tanh", "srs", "elu", "gelu")
START = ("relu",) * 5


def genetic(
    population: int = 5, crossover: float = 0.8, mutation: float = 0.3, elites: int = 1, seed: int = 0
) -> Genetic:
    settings = GeneticSection(population=population, crossover=crossover, mutation=mutation, elites=elites)
    return Genetic(OPERATORS, START, settings, seed)


def tell(search: Genetic, *costs: float) -> list[Assignment]:
    """The candidates that were given these costs."""
    found = []
    for cost in costs:
        found.append(search.ask())
        search.tell(cost)
    return found


def pure(population: int, crossover: float, mutation: float, seed: int) -> tuple[Genetic, list[Assignment]]:
    """A first generation of assignments of one operator each, costs 0.0, 0.1, 0.2 and so on."""
    search = genetic(population, crossover, mutation, seed=seed)
    parents = [(operator,) * 5 for operator in OPERATORS[:population]]
    scored: list[tuple[Assignment, float]] = [(assignment, index / 10) for index, assignment in enumerate(parents)]
    search.parents, search.generation, search.iteration = scored, scored[:1], population
    return search, parents


def test_generations_worked_by_hand() -> None:
    """Population 4, one elite: 4 evaluations, then 3 for each further generation."""
    search = genetic(population=4)
    first = tell(search, 0.5, 0.3, 0.9, 0.4)
    assert first[0] == START
    assert search.parents == [(first[1], 0.3), (first[3], 0.4), (first[0], 0.5), (first[2], 0.9)]
    assert search.generation == [(first[1], 0.3)], "the elite needs no second evaluation"
    second = tell(search, 0.6, 0.2, 0.7)
    assert search.parents == [(second[1], 0.2), (first[1], 0.3), (second[0], 0.6), (second[2], 0.7)]
    third = tell(search, 0.8)
    assert search.generation == [(second[1], 0.2), (third[0], 0.8)], "the last generation may be cut short"
    assert (search.best, search.best_cost) == (second[1], 0.2)


def test_without_elites_a_generation_is_all_children() -> None:
    search = genetic(population=3, elites=0)
    tell(search, 0.1, 0.2, 0.3)
    assert search.generation == []
    children = tell(search, 0.4, 0.5, 0.6)
    assert [assignment for assignment, _ in search.parents] == children
    assert search.best_cost == 0.1


def test_of_two_that_meet_the_better_is_a_parent() -> None:
    winners = set()
    for seed in range(60):
        search, parents = pure(3, crossover=0, mutation=0, seed=seed)
        winners.add(search.ask())
    assert winners == set(parents[:2]), "the worst of three loses against either"


def test_a_child_has_the_head_of_one_parent_and_the_tail_of_another() -> None:
    cuts = set()
    for seed in range(200):
        search, parents = pure(5, crossover=1, mutation=0, seed=seed)
        child = search.ask()
        changes = [site for site in range(1, 5) if child[site] != child[site - 1]]
        assert len(changes) <= 1
        assert {(operator,) * 5 for operator in child} <= set(parents)
        cuts.update(changes)
    assert cuts == {1, 2, 3, 4}


def test_a_mutation_changes_one_site() -> None:
    sites = set()
    for seed in range(60):
        search, parents = pure(2, crossover=0, mutation=1, seed=seed)
        changed = [site for site, operator in enumerate(search.ask()) if operator != parents[0][site]]
        assert len(changed) == 1, "the better of two always wins"
        sites.update(changed)
    assert sites == set(range(5))


def test_children_as_often_as_the_probabilities_say() -> None:
    def changed(crossover: float, mutation: float) -> int:
        return sum(pure(2, crossover, mutation, seed)[0].ask() != (OPERATORS[0],) * 5 for seed in range(400))

    assert abs(changed(0, 0.3) - 120) < 28  # three deviations
    assert changed(0.8, 0) == 0, "both parents are the winner"
