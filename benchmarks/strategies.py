"""Compare the strategies at equal budgets on the recorded table of real evaluations.

    python benchmarks/strategies.py [SEEDS]

draws strategies.svg and prints the table of README.md; 20 seeds take about a minute.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from record_evaluations import FOLDER, SETTING, TABLE

from safs_ray import config
from safs_ray.config import SearchSection
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.strategy import make

FIGURE = FOLDER / "strategies.svg"
BUDGET = 100
SUITED = {"initial_temperature": 0.05, "final_temperature": 0.002}

CONTENDERS: dict[str, dict[str, Any]] = {
    "random": {"strategy": "random"},
    "lahc": {"strategy": "lahc"},
    "lahc, redraw only": {"strategy": "lahc", "move": "redraw"},
    "annealing": {"strategy": "annealing"},
    "annealing, 0.05 to 0.002": {"strategy": "annealing", "annealing": SUITED},
    "genetic": {"strategy": "genetic"},
    "tpe": {"strategy": "tpe"},
}
"""Settings by the name of a line; all others are the defaults."""

Costs = npt.NDArray[np.float64]
"""The best cost so far by seed and evaluation."""


@dataclass(frozen=True)
class Runs:
    """What the runs of one contender found.

    Attributes:
        best: of runs planned for the whole budget.
        best_of_20: costs at the end of runs planned for 20 evaluations, by seed.
        distinct: different assignments in a run, mean over seeds.
    """

    best: Costs
    best_of_20: Costs
    distinct: float


def main(seeds: int) -> None:
    costs = recorded_costs()
    runs = {name: contend(settings, costs, seeds) for name, settings in CONTENDERS.items()}
    draw(runs, min(costs.values()))
    for line in table(runs, costs):
        print(line)


def recorded_costs() -> dict[Assignment, float]:
    """The cost of every assignment in the table: an evaluation is the first ``search.epochs`` of its epochs."""
    epochs = config.load(SETTING).search.epochs
    rows = pq.read_table(TABLE).to_pylist()
    return {tuple(row["assignment"]): 1 - max(row["validation_accuracy"][:epochs]) for row in rows}


def contend(settings: dict[str, Any], costs: dict[Assignment, float], seeds: int) -> Runs:
    """All runs of a contender, from the default activation at every site."""
    whole, short = ([search(planned(settings, steps), costs, seed) for seed in range(seeds)] for steps in (BUDGET, 20))
    return Runs(
        best_so_far(whole, costs),
        best_so_far(short, costs)[:, -1],
        float(np.mean([len(set(candidates)) for candidates in whole])),
    )


def best_so_far(runs: list[list[Assignment]], costs: dict[Assignment, float]) -> Costs:
    """The lowest cost after every evaluation of every run."""
    return np.minimum.accumulate([[costs[candidate] for candidate in run] for run in runs], axis=1)


def planned(settings: dict[str, Any], steps: int) -> SearchSection:
    operators = config.load(SETTING).search.operators
    return config.validate({"search": {**settings, "operators": operators, "steps": steps}}).search


def search(section: SearchSection, costs: dict[Assignment, float], seed: int) -> list[Assignment]:
    """The candidates of one run, in the order of their evaluation."""
    strategy = make(section, ("relu",) * 4, derive(seed, "benchmark"))
    candidates = []
    for _ in range(section.steps):
        candidates.append(strategy.ask())
        strategy.tell(costs[candidates[-1]])
    return candidates


def table(runs: dict[str, Runs], costs: dict[Assignment, float]) -> list[str]:
    """Medians and quartiles in Markdown; costs in per cent."""
    reference = runs["random"]
    lines = [
        "| strategy | best cost after 20 | beats random | best cost after 100 | beats random | distinct of 100 |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        columns = [name]
        for mine, other in ((found.best_of_20, reference.best_of_20), (found.best[:, -1], reference.best[:, -1])):
            columns += [spread(mine), "" if found is reference else f"{wins(mine, other):.0%}"]
        lines.append("| " + " | ".join([*columns, f"{found.distinct:.0f}"]) + " |")
    every = np.array(list(costs.values()))
    lines.append(f"\nall {len(every)}: lowest {every.min():.2%}, quartiles {spread(every)}, highest {every.max():.2%}")
    return lines


def spread(values: Costs) -> str:
    low, middle, high = 100 * np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def wins(mine: Costs, other: Costs) -> float:
    """How often a run ends below a run of the other, over all pairs; ties count half."""
    difference = mine[:, None] - other[None, :]
    return float((difference < 0).mean() + (difference == 0).mean() / 2)


def draw(runs: dict[str, Runs], lowest: float) -> None:
    """A panel for each strategy, with random search in grey behind it."""
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "strategies", "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "font.family": "DejaVu Sans"})
    names = [name for name in runs if name != "random"]
    figure, panels = plt.subplots(2, 3, figsize=(9, 5.4), sharex=True, sharey=True, layout="constrained")
    for panel, name in zip(panels.flat, names, strict=True):
        curve(panel, runs["random"].best, "0.55", "random")
        curve(panel, runs[name].best, "#c2410c", name)
        panel.axhline(100 * lowest, color="0.25", linewidth=0.8, linestyle=(0, (2, 2)))
        panel.set_title(name, fontsize=10, color="#c2410c", loc="left")
        panel.grid(axis="y", color="0.92")
    panels[0, 0].legend(frameon=False)
    panels[0, 0].set_xscale("log")
    panels[0, 0].set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    panels[0, 0].minorticks_off()
    figure.supxlabel("evaluations", fontsize=9)
    figure.supylabel("best cost so far, 1 - accuracy, in per cent: median and quartiles", fontsize=9)
    figure.savefig(FIGURE, metadata={"Date": None})


def curve(panel: Axes, best: Costs, color: str, label: str) -> None:
    """Median as a line, quartiles as a band, in steps: a cost holds until a better one is found."""
    low, middle, high = 100 * np.quantile(best, (0.25, 0.5, 0.75), axis=0)
    evaluations = np.arange(1, best.shape[1] + 1)
    panel.fill_between(evaluations, low, high, color=color, alpha=0.18, linewidth=0, step="post")
    panel.step(evaluations, middle, color=color, linewidth=1.6, where="post", label=label)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
