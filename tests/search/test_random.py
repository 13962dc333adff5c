from __future__ import annotations

from collections import Counter

from safs_ray.search.random import RandomSearch


def proposed(search: RandomSearch, count: int) -> list[tuple[str, ...]]:
    candidates = []
    for _ in range(count):
        candidates.append(search.ask())
        search.tell(0.5)
    return candidates


def test_every_assignment_is_as_likely_as_any_other() -> None:
    start = ("relu", "relu")
    counts = Counter(proposed(RandomSearch(("relu", "tanh", "srs"), start, seed), 2)[1] for seed in range(1600))
    assert len(counts) == 8
    assert start not in counts
    assert all(abs(count - 200) < 3.5 * 13.2 for count in counts.values())  # deviation sqrt(1600 (1/8) (7/8))


def test_nothing_is_proposed_again_before_everything_was() -> None:
    operators = ("relu", "tanh", "srs")
    everything = {(one, other) for one in operators for other in operators}
    candidates = proposed(RandomSearch(operators, ("relu", "relu"), seed=0), 27)
    assert {tuple(sorted(candidates[at : at + 9])) for at in (0, 9, 18)} == {tuple(sorted(everything))}


def test_a_start_of_other_operators_takes_no_ones_place() -> None:
    first, *candidates = proposed(RandomSearch(("relu", "tanh", "srs"), ("gelu",), seed=0), 4)
    assert first == ("gelu",)
    assert sorted(candidates) == [("relu",), ("srs",), ("tanh",)]


def test_candidates_do_not_depend_on_costs() -> None:
    one, other = (RandomSearch(("relu", "tanh", "srs"), ("relu",) * 4, seed=1) for _ in range(2))
    for step in range(20):
        assert one.ask() == other.ask()
        one.tell(step / 20)
        other.tell(1 - step / 20)


def test_only_a_new_best_is_accepted() -> None:
    search = RandomSearch(("relu", "tanh"), ("relu",), seed=0)
    accepted = []
    for cost in (0.5, 0.6, 0.5, 0.4):
        search.ask()
        accepted.append(search.tell(cost))
    assert accepted == [True, False, False, True]
