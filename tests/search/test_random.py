from __future__ import annotations

from collections import Counter

from safs_ray.search.random import RandomSearch


def test_every_assignment_is_as_likely_as_any_other() -> None:
    search = RandomSearch(("relu", "tanh", "srs"), ("relu", "relu"), seed=0)
    search.ask()
    search.tell(0.5)
    counts: Counter[tuple[str, ...]] = Counter()
    for _ in range(1800):
        counts[search.ask()] += 1
        search.tell(0.5)
    assert len(counts) == 9
    assert all(abs(count - 200) < 3.5 * 13.4 for count in counts.values())  # deviation sqrt(1800 (1/9) (8/9))


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
