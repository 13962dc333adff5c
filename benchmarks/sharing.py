"""Compare chains that share their best assignment with chains that do not, on the recorded table of real evaluations.

    python benchmarks/sharing.py [SEEDS]

prints the table of README.md; 200 seeds take some seconds.
"""

from __future__ import annotations

import sys

import numpy as np
from strategies import Costs, planned, recorded_costs, spread, wins

from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.strategy import make

CHAINS, STEPS = 8, 20
SECTION = planned({"strategy": "lahc"}, STEPS)


def main(seeds: int) -> None:
    costs = recorded_costs()
    print("| chains at a time | share | best cost after 80 | beats none | after 160 | beats none | trained of 160 |")
    print("|---|---|---|---|---|---|---|")
    for together in (1, 4):
        alone = [search(costs, together, False, seed) for seed in range(seeds)]
        shared = [search(costs, together, True, seed) for seed in range(seeds)]
        for name, runs in (("none", alone), ("best", shared)):
            columns = [str(together), name]
            for count in (80, 160):
                columns += [spread(best_after(runs, count))]
                columns += ["" if runs is alone else f"{wins(best_after(runs, count), best_after(alone, count)):.0%}"]
            trained = float(np.mean([len({candidate for candidate, _ in run}) for run in runs]))
            print("| " + " | ".join([*columns, f"{trained:.0f}"]) + " |")


def best_after(runs: list[list[tuple[Assignment, float]]], count: int) -> Costs:
    """The lowest cost of each run's first evaluations."""
    return np.array([min(cost for _, cost in run[:count]) for run in runs])


def search(costs: dict[Assignment, float], together: int, share: bool, seed: int) -> list[tuple[Assignment, float]]:
    """Candidates and costs of all chains in the order of their evaluation, so many chains side by side.

    A chain that begins when others are under way or done starts from the best assignment so far, where they share it.
    """
    made: list[tuple[Assignment, float]] = []
    for first in range(0, CHAINS, together):
        best = min(made, key=lambda pair: pair[1])[0] if share and made else ("relu",) * 4
        chains = [make(SECTION, best, derive(seed, "chain", first + number)) for number in range(together)]
        for _ in range(STEPS):
            for chain in chains:
                candidate = chain.ask()
                chain.tell(costs[candidate])
                made.append((candidate, costs[candidate]))
    return made


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
