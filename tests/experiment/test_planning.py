from __future__ import annotations

import time

from safs_ray.config import Configuration
from safs_ray.experiment import plan, sweeps
from tests.stages.altered import changed


def test_sweeps_in_the_order_of_the_run(configuration: Configuration) -> None:
    def listed(section: Configuration) -> list[tuple[str, int, int]]:
        return [(course.sweep, course.steps, count) for course, count in sweeps(section)]

    assert listed(configuration) == [("SAFS", 4 + 2, 3)]
    staged = changed(changed(configuration, "search", protocol="staged", chains=5), "final", ablations=("stage 2",))
    assert listed(staged) == [("stage 1", 4, 5), ("SAFS", 2, 3), ("stage 2", 2, 3)]


def test_plan_counts_epochs(configuration: Configuration) -> None:
    assert plan(configuration) == {
        "dense training": 3,
        "pruning": 2,
        "search": 3 * 4 * 1,
        "fine-tuning": 3 * 4,
        "finalists": (3 + 1) * 2 * 2,
        "final evaluation": 2 * 2 * 2,
    }
    before = changed(configuration, "search", when="before")
    assert plan(before)["pruning"] == 2 * 2, "the row of the default activations, and that of the found ones"


def test_plan_of_protocol_staged_with_all_rows(configuration: Configuration) -> None:
    staged = changed(configuration, "search", protocol="staged", chains=2)
    assert plan(changed(staged, "final", ablations=("stage 1", "stage 2"))) == {
        "dense training": 3,
        "pruning": 2,
        "search": 2 * 4 * 1,
        "fine-tuning": 2 * 3 * 4,
        "finalists": (2 + 3 + 3 + 3 * 1) * 2 * 2,
        "final evaluation": 4 * 2 * 2,
    }


def test_plan_counts_the_default_recipe_beside_one_finalist(configuration: Configuration) -> None:
    assert plan(changed(configuration, "final", finalists=1))["finalists"] == (1 + 1) * 2 * 2
    assert plan(changed(configuration, "tune", trials=1))["finalists"] == (1 + 1) * 2 * 2
    assert plan(changed(configuration, "final", finalists=2, seeds=5, epochs=7))["finalists"] == 3 * 5 * 7


def test_the_longest_run_is_planned_at_once(configuration: Configuration) -> None:
    most = 10**6
    longest = changed(configuration, "search", steps=most, epochs=most, chains=10**4, protocol="staged")
    longest = changed(longest, "tune", trials=most)
    start = time.process_time()
    assert plan(longest)["search"] == 10**4 * most * most
    assert time.process_time() - start < 1


def test_a_network_that_is_there_takes_no_epochs(configuration: Configuration) -> None:
    dense = plan(changed(configuration, "model", weights="w.pt"))
    assert (dense["dense training"], dense["pruning"]) == (0, 2)
    pruned = plan(changed(configuration, "model", weights="w.pt", pruned=True))
    assert (pruned["dense training"], pruned["pruning"]) == (0, 0)
