"""Groups of runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from safs_ray.config import ConfigurationError, counted
from safs_ray.report.canvas import (
    MARKERS,
    PALETTE,
    SERIES,
    Absent,
    Figure,
    Margins,
    Mark,
    Panel,
    coloured,
    key,
    per_cent,
    tip,
)
from safs_ray.report.figures.functions import POINTS, WITHOUT_INPUTS, Activation, learned
from safs_ray.report.groups import GAIN, Group
from safs_ray.report.record import Record
from safs_ray.search.course import Sweep

ROW = 34
LETTERS = 26
"""Of a group's label in one line."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1)), (0, (8, 2)))


def _colour(place: int, **style: Any) -> dict[str, Any]:
    return coloured(SERIES[place % len(SERIES)], **style)


def _marks(groups: Sequence[Group], **style: Any) -> Panel:
    return key(*(Mark(group.label, _line(place, **style)) for place, group in enumerate(groups)))


def _line(place: int, **style: Any) -> dict[str, Any]:
    """Groups differ in colour and in dashes."""
    return _colour(place, linestyle=DASHES[place % len(DASHES)], **style)


def accuracies(groups: Sequence[Group], names: Sequence[str]) -> Figure | Absent:
    """A panel for every row of the table and for the gain, with the groups below each other."""
    name, title = "groups", "Accuracy, group by group"
    if not names:
        return Absent(name, title, "No run has any row of the table yet.")
    panels = [_accuracy(groups, row) for row in (*names, GAIN) if any(group.values(row) for group in groups)]
    caption = (
        "Each mark is a seed, or a fold of a single run. The stroke is their mean, and the pale bar is the 95% "
        "interval of that mean by Student’s t. Every panel has its own scale. A gain is SAFS minus “pruned” in the "
        "same run."
    )
    return Figure(name, title, caption, tuple(panels))


def _accuracy(groups: Sequence[Group], row: str) -> Panel:
    def paint(axes: Axes) -> None:
        for place, group in enumerate(groups):
            _group(axes, place, group, row)
        axes.set_yticks(range(len(groups)), [fill(group.label, LETTERS) for group in groups], color=PALETTE["ink"])
        axes.set(
            ylim=(len(groups) - 0.4, -0.6), title=f"{row}, {'points' if row == GAIN else 'test accuracy in per cent'}"
        )
        axes.margins(x=0.08)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        if row == GAIN:
            axes.axvline(0, linewidth=1.2, **coloured("faint"))

    left = 24 + 7 * min(LETTERS, max(len(group.label) for group in groups))
    return Panel(f"{row} of each group", paint, 250 + left, ROW * len(groups) + 64, Margins(left=left, bottom=28))


def _group(axes: Axes, place: int, group: Group, row: str) -> None:
    values, mean = [100 * value for value in group.values(row).values()], group.estimate(row)
    if mean is None:
        return
    if mean.low is not None and mean.high is not None:
        axes.plot([100 * mean.low, 100 * mean.high], [place, place], linewidth=6, alpha=0.3, **_colour(place))
    marker = MARKERS[place % len(MARKERS)]
    axes.plot(values, [place] * len(values), linestyle="none", marker=marker, markersize=5.5, **_colour(place))
    (middle,) = axes.plot([100 * mean.mean], [place], "|", markersize=20, markeredgewidth=2, **_colour(place))
    tip(middle, f"{group.label}, {row}: {100 * mean.mean:.1f}")


def progress(groups: Sequence[Group]) -> Figure | Absent:
    """The best validation accuracy against what the search had cost."""
    name, title = "progress", "How fast the search found it"
    curves = [[(record, curve) for record in group.records if (curve := _curve(record))] for group in groups]
    if not any(curves):
        return Absent(name, title, "No evaluations were kept with these runs.")

    def paint(axes: Axes) -> None:
        for place, runs in enumerate(curves):
            for record, (spent, best) in runs:
                (line,) = axes.plot(spent, best, drawstyle="steps-post", **_line(place, linewidth=1.6, alpha=0.9))
                tip(line, f"{record.name}: {best[-1]:.1f}% after {spent[-1]:,.0f} core-seconds")
        axes.set(xlabel="core-seconds of the search", ylabel="best validation accuracy, per cent")
        axes.set_xlim(left=0)

    caption = (
        "Each line is a run: the highest validation accuracy that the search for SAFS had reached, against the CPU "
        "time that it had taken by then. The higher of two lines found more for the same cost."
    )
    panel = Panel("Best validation accuracy against core-seconds", paint, 460, 320, Margins(left=54, bottom=46))
    return Figure(name, title, caption, (panel, _marks(groups, linewidth=1.6)))


def _curve(record: Record) -> tuple[list[float], list[float]] | None:
    """Core-seconds spent, and the best accuracy in per cent, after every step of the search for SAFS."""
    steps = [evaluation for evaluation in record.evaluations if evaluation.sweep is not Sweep.SCALES]
    if not steps:
        return None
    spent = accumulate(step.core_seconds for step in steps)
    best = accumulate((per_cent(max(step.validation_accuracy, step.best_accuracy)) for step in steps), max)
    return list(spent), list(best)


def found_functions(groups: Sequence[Group]) -> Figure | Absent:
    """What every run has found, site by site."""
    name, title = "found", "The functions found"
    try:
        learned_by = [(place, run, learned(run)) for place, group in enumerate(groups) for run in group.records]
    except ConfigurationError as error:
        return Absent(name, title, f"The functions cannot be computed here: {error}")
    sites = {tuple(functions) for _, _, functions in learned_by if functions}
    if len(sites) != 1:
        return Absent(
            name, title, "The networks have different sites." if sites else "The search has found nothing yet."
        )
    panels = [
        _functions(site, [(place, run, functions[site]) for place, run, functions in learned_by if functions])
        for site in next(iter(sites))
    ]
    caption = (
        "Each line is the learned f(x) = α g(β x) of a run. Where the lines run together, the search finds the same "
        "function again; where they scatter, the function hardly matters at this site."
    )
    if any(run.best_network is None for _, run, _ in learned_by):
        caption += " For runs without their networks, the operators’ own parameters are drawn as they begin."
    return Figure(name, title, caption, (*panels, _marks(groups, linewidth=1.6)))


def _functions(site: str, functions: Sequence[tuple[int, Record, Activation]]) -> Panel:
    def paint(axes: Axes) -> None:
        x = np.linspace(*WITHOUT_INPUTS, POINTS)
        for place, record, function in functions:
            (line,) = axes.plot(x, function(x), **_line(place, linewidth=1.6, alpha=0.9))
            tip(line, f"{record.name}: {function.operator}, α {function.alpha:.2f}, β {function.beta:.2f}")
        axes.axhline(0, linewidth=0.9, **coloured("line"))
        axes.axvline(0, linewidth=0.9, **coloured("line"))
        axes.set(xlim=WITHOUT_INPUTS, title=site)
        axes.set_ylim(max(axes.get_ylim()[0], -8), min(axes.get_ylim()[1], 12))

    return Panel(f"{site}: the functions of {counted(len(functions), 'run')}", paint)
