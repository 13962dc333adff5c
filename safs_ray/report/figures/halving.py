"""ASHA: how far every trial came, and at which rung it was stopped."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from safs_ray.config import counted
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Mark, Panel, coloured, hollow, key, per_cent, tip
from safs_ray.report.record import Record
from safs_ray.report.sweeps import SweepRecord, Trial

NAME, TITLE = "halving", "Which trials were stopped, and when"
CAPTION = (
    "Each line is a trial: the highest validation accuracy of its phase after every step. ASHA compares trials at the "
    "dashed rungs. A line that ends in a cross was stopped there, because it lay below others that had reached it."
)
AFRESH = " The maximum starts anew when fine-tuning starts, so a line may fall there."

ENDS = {
    "finished": coloured("ink", marker="o", markersize=5),
    "stopped": coloured("default", marker="x", markersize=6, markeredgewidth=1.8),
    "cut": hollow("ink", marker="s", markersize=6),
    "diverged": coloured("default", marker="v", markersize=6),
    "failed": coloured("default", marker="v", markersize=6),
    "open": hollow("ink", marker="o", markersize=6),
}
MEANINGS = {
    "finished": "reached its end",
    "stopped": "stopped by ASHA",
    "cut": "ended with the budget",
    "diverged": "diverged or failed",
    "open": "still running, or stopped there",
}
OTHER = {"linewidth": 1.1, "alpha": 0.75}
WINNER = {"linewidth": 2.6}
STOPPED: dict[str, Any] = {"hatch": "////", "facecolor": PALETTE["paper"], "edgecolor": PALETTE["default"]}


def draw(record: Record) -> Figure | Absent:
    """For every sweep of trials with hyperparameters of their own: its trials, and what each rung did."""
    sweeps = [sweep for sweep in record.sweeps if sweep.course.searches_hyperparameters]
    if not sweeps:
        return Absent(NAME, TITLE, "No steps of trials were kept with this run.")
    panels = [panel for sweep in sweeps for panel in (_trials(sweep), _rungs(sweep)) if panel]
    afresh = any(sweep.course.evaluations and sweep.course.stretches for sweep in sweeps)
    seen = {"diverged" if trial.fate == "failed" else trial.fate for sweep in sweeps for trial in sweep.trials}
    marks = [
        Mark("the winner", coloured("found", **WINNER)),
        *(Mark(meaning, {"linestyle": "none", **ENDS[fate]}) for fate, meaning in MEANINGS.items() if fate in seen),
    ]
    return Figure(NAME, TITLE, f"{CAPTION}{AFRESH if afresh else ''}", (*panels, key(*marks)))


def _trials(sweep: SweepRecord) -> Panel:
    course, count = sweep.course, len(sweep.trials)

    def paint(axes: Axes) -> None:
        for rung in sweep.rungs:
            axes.axvline(rung, linewidth=1, linestyle=(0, (4, 3)), **coloured("faint"))
        if course.evaluations and course.stretches:
            start, end, above = course.evaluations + 0.5, course.steps + 0.5, axes.get_xaxis_transform()
            axes.axvspan(start, end, alpha=0.5, linewidth=0, **coloured("shade"))
            axes.text(end, 1.015, "fine-tuning", transform=above, ha="right", **coloured("faint"))
        for trial in sorted(sweep.trials, key=lambda trial: trial is sweep.winner):
            _line(axes, trial, trial is sweep.winner)
        known = "" if count == sweep.planned else f"{count} of "
        axes.set_title(f"{sweep.name}, {known}{counted(sweep.planned, 'trial')}")
        axes.set(xlim=(0.5, course.steps + 0.5), xlabel="step", ylabel="best validation accuracy, per cent")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    title = f"{sweep.name}: best validation accuracy of every trial by step"
    return Panel(title, paint, 420, 300, Margins(left=52, bottom=44))


def _line(axes: Axes, trial: Trial, won: bool) -> None:
    steps = [evaluation.iteration + 1 for evaluation in trial.evaluations]
    best = [per_cent(evaluation.best_accuracy) for evaluation in trial.evaluations]
    (line,) = axes.plot(steps, best, **(coloured("found", **WINNER) if won else coloured("faint", **OTHER)))
    (end,) = axes.plot(steps[-1:], best[-1:], clip_on=False, **{"linestyle": "none", **ENDS[trial.fate]})
    label = f"trial {trial.number}: {best[-1]:.1f}% after step {steps[-1]}, {trial.fate}"
    tip(line, label)
    tip(end, label)


def _rungs(sweep: SweepRecord) -> Panel | None:
    """How many trials came to each rung and to the end, and how many of them were stopped there."""
    if not sweep.rungs:
        return None
    ends = [*sweep.rungs, sweep.course.steps]

    def paint(axes: Axes) -> None:
        for place, end in enumerate(ends):
            _rung(axes, place, sweep, end)
        axes.set_yticks(range(len(ends)), [f"step {end}" for end in ends])
        axes.set(ylim=(len(ends) - 0.4, -0.6), xlim=(0, sweep.planned))
        axes.set_title("The rungs")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines[:].set_visible(False)

    counts = "; ".join(f"step {end}: {counted(_came(sweep, end), 'trial')}" for end in ends)
    title = f"{sweep.name}, trials that reached each rung: {counts}"
    return Panel(title, paint, 290, 44 + 30 * len(ends), Margins(left=62, right=130, bottom=10))


def _came(sweep: SweepRecord, step: int) -> int:
    return sum(trial.steps >= step for trial in sweep.trials)


def _rung(axes: Axes, place: int, sweep: SweepRecord, step: int) -> None:
    came = _came(sweep, step)
    stopped = sum(trial.steps == step and trial.fate == "stopped" for trial in sweep.trials)
    axes.barh(place, came - stopped, height=0.62, **coloured("found"))
    if stopped:
        axes.barh(place, stopped, left=came - stopped, height=0.62, **STOPPED)
    text = f"{came} came, {stopped} stopped" if step in sweep.rungs else f"{came} reached the end"
    axes.text(came + 0.05 * sweep.planned, place, text, va="center")
