"""Draw docs/flow.svg, the way of the data, and docs/lahc.svg, one search on recorded evaluations.

python docs/draw_concepts.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safs_ray import config
from safs_ray.search.lahc import LateAcceptance

FOLDER = Path(__file__).parent
BENCHMARKS = FOLDER.parent / "benchmarks"
BLUE, RED, TEXT, FAINT, PAPER = "#0068a8", "#c4501b", "#333333", "#808080", "#f7f7f5"
STYLE = {"font.size": 10, "font.family": "DejaVu Sans", "text.parse_math": False, "svg.fonttype": "path"}
STEPS, SEED = 40, 0


def main() -> None:
    """Write both files."""
    for name, draw in (("flow", flow), ("lahc", lahc)):
        with plt.rc_context({**STYLE, "svg.hashsalt": name}):
            draw().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def flow() -> Figure:
    """The stages as boxes on the way of one network."""
    figure = plt.figure(figsize=(9.4, 2.7), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 940), ylim=(0, 270))
    axes.set_axis_off()
    _box(axes, 20, 165, "dense training", "with ReLU, all weights")
    _box(axes, 205, 165, "pruning", "the smallest weights\nbecome 0 and stay 0")
    _box(axes, 390, 165, "search", "which operator at which\nsite, by short training", BLUE)
    _box(axes, 575, 165, "fine-tuning", "weights, alpha and beta\nare learned", BLUE)
    _box(axes, 760, 165, "final evaluation", "row SAFS: trained on each\nfold, tested once", BLUE)
    _box(axes, 760, 30, "final evaluation", "row pruned: the same\nweights, with ReLU", RED)
    for x in (180, 365, 550, 735):
        _arrow(axes, (x, 205), (x + 25, 205))
    axes.plot([285, 285, 735], [165, 70, 70], color=FAINT, linewidth=1.4)
    _arrow(axes, (735, 70), (760, 70))
    axes.text(
        400, 112, "a trial of Ray Tune: hyperparameters that HyperOpt\nproposes; ASHA stops the weak ones", color=TEXT
    )
    axes.plot([390, 390, 735, 735], [158, 152, 152, 158], color=BLUE, linewidth=1.4)
    return figure


def _box(axes: Axes, x: float, y: float, title: str, text: str, color: str = FAINT) -> None:
    axes.add_patch(plt.Rectangle((x, y), 160, 80, facecolor="white", edgecolor=color, linewidth=1.6))
    axes.text(x + 10, y + 58, title, color=TEXT, weight="bold")
    axes.text(x + 10, y + 47, text, color=TEXT, fontsize=8, va="top", linespacing=1.3)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": FAINT, "linewidth": 1.4})


def lahc() -> Figure:
    """Costs of the candidates of one run, and what was accepted."""
    sys.path.append(str(BENCHMARKS))
    from record_evaluations import SETTING, TABLE

    run = config.load(SETTING)
    rows = pq.read_table(TABLE).to_pylist()
    costs = {tuple(row["assignment"]): 1 - max(row["validation_accuracy"][: run.search.epochs]) for row in rows}
    strategy = LateAcceptance(run.search.operators, ("relu",) * 4, 3, "redraw and swap", SEED)
    accepted, rejected, current, best, limits = [], [], [], [], []
    for step in range(1, STEPS + 1):
        cost = 100 * costs[strategy.ask()]
        limits.append(100 * strategy.limit if step > 1 else cost)
        (accepted if strategy.tell(cost / 100) else rejected).append((step, cost))
        current.append(100 * strategy.current_cost)
        best.append(100 * strategy.best_cost)
    figure, axes = plt.subplots(figsize=(9.4, 3.4), facecolor=PAPER, layout="constrained")
    axes.set_facecolor(PAPER)
    steps = range(1, STEPS + 1)
    axes.fill_between(steps, limits, 60, step="mid", color=FAINT, alpha=0.15, linewidth=0, label="would be rejected")
    axes.step(steps, current, where="mid", color=BLUE, linewidth=1.2, label="current")
    axes.step(steps, best, where="mid", color=TEXT, linewidth=1.2, linestyle=(0, (4, 2)), label="best so far")
    axes.plot(*zip(*accepted, strict=True), "o", color=BLUE, label="accepted candidate")
    axes.plot(*zip(*rejected, strict=True), "x", color=RED, label="rejected candidate")
    axes.set(xlabel="evaluation", ylabel="cost: 1 - accuracy, per cent", xlim=(0.5, STEPS + 0.5))
    axes.set_ylim(min(best) - 1, max(cost for _, cost in [*accepted, *rejected]) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    return figure


if __name__ == "__main__":
    main()
