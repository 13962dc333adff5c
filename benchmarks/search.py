"""What strategies spend until they find an assignment of a given cost, on the recorded table of real evaluations.

    python benchmarks/search.py [--costs 0.20 0.19] [--seeds 20]

takes half a minute. Medians over seeds of the trainings, their epochs and their core-seconds as they were recorded; an
assignment that comes again is on the board and is not trained again. A run that does not find one in its evaluations
counts as one that takes longer than all others; "-" where most do not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from statistics import median

import pyarrow.parquet as pq
from record_evaluations import EPOCHS, SETTING, TABLE
from strategies import CONTENDERS, planned, recorded_costs, search

from safs_ray import config
from safs_ray.search.assignment import Assignment

NAMES = ("random", "lahc", "tpe")
"""Those of the contenders that are compared; the first is what the others are compared with."""

Costs = dict[Assignment, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", nargs="+", type=float, default=[0.20, 0.19], help="1 - accuracy to be reached")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=300, help="of a run")
    arguments = parser.parse_args()
    costs, epochs = recorded_costs(), config.load(SETTING).search.epochs
    rows = pq.read_table(TABLE).to_pylist()
    seconds = {tuple(row["assignment"]): row["core_seconds"] * epochs / EPOCHS for row in rows}
    sections = {name: planned(CONTENDERS[name], arguments.evaluations) for name in NAMES}
    runs = {
        name: [search(section, costs, seed) for seed in range(arguments.seeds)] for name, section in sections.items()
    }
    print("| cost | of all | strategy | runs that find it | trainings | epochs | core-s | random / it |")
    print("|---|---|---|---|---|---|---|---|")
    for cost in arguments.costs:
        share = sum(each <= cost for each in costs.values()) / len(costs)
        spent = {name: [trained(run, costs, cost) for run in own] for name, own in runs.items()}
        reference = median(core_seconds(spent[NAMES[0]], seconds))
        for name, own in spent.items():
            found = f"{sum(each is not None for each in own)} of {len(own)}"
            trainings = median(math.inf if each is None else len(each) for each in own)
            took = median(core_seconds(own, seconds))
            columns = [written(trainings), written(trainings * epochs), written(took), written(reference / took, 2)]
            print(f"| {cost:g} | {share:.1%} | {name} | {found} | {' | '.join(columns)} |")


def trained(run: Sequence[Assignment], costs: Costs, cost: float) -> set[Assignment] | None:
    """The assignments that a run trains until one has the cost or a lower one; None where none has."""
    for count, candidate in enumerate(run, start=1):
        if costs[candidate] <= cost:
            return set(run[:count])
    return None


def core_seconds(spent: Sequence[set[Assignment] | None], seconds: Costs) -> list[float]:
    """What the trainings of each run took; infinity for a run that does not find one."""
    return [math.inf if own is None else sum(seconds[each] for each in own) for own in spent]


def written(number: float, digits: int = 0) -> str:
    return f"{number:,.{digits}f}" if math.isfinite(number) and number else "-"


if __name__ == "__main__":
    main()
