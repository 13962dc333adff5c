"""Hyperparameters against accuracy, in parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes

from safs_ray.config import counted
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Mark, Panel, coloured, key, tip
from safs_ray.report.record import Record
from safs_ray.report.sweeps import SweepRecord, Trial
from safs_ray.report.wording import listed

NAME, TITLE = "hyperparameters", "Hyperparameters against accuracy"
CAPTION = (
    "Each line is a trial, from its hyperparameters on the left to its last validation accuracy on the right. Where "
    "the strong lines cross an axis close together, that hyperparameter mattered."
)
LOGARITHMIC = ("learning_rate", "weight_decay")
APART = 126
"""Pixels from one axis to the next."""
WORDS = 12
"""Letters in a line beside an axis."""

WINNER = {"linewidth": 2.8}
STRONG = {"linewidth": 1.6, "alpha": 0.8}
WEAK = {"linewidth": 1.0, "alpha": 0.55}
STOPPED = (0, (4, 2))


@dataclass(frozen=True)
class Axis:
    """One upright axis.

    Attributes:
        heights: of every trial, in [0, 1].
        ticks: height and text.
    """

    name: str
    heights: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def draw(record: Record) -> Figure | Absent:
    """A panel for every sweep of trials with hyperparameters of their own."""
    sweeps = [sweep for sweep in record.sweeps if sweep.course.searches_hyperparameters and len(sweep.trials) > 1]
    if not sweeps:
        return Absent(NAME, TITLE, "Fewer than two trials were kept with this run.")
    panels = [_panel(sweep, several=len(sweeps) > 1) for sweep in sweeps]
    marks = (
        Mark("the winner", coloured("found", **WINNER)),
        Mark("the best quarter", coloured("found", **STRONG)),
        Mark("the others", coloured("faint", **WEAK)),
        Mark("ended before its last step", coloured("faint", linestyle=STOPPED, **WEAK)),
    )
    return Figure(NAME, TITLE, CAPTION, (*panels, key(*marks)))


def _panel(sweep: SweepRecord, several: bool) -> Panel:
    dimensions = axes_of(sweep.trials)

    def paint(axes: Axes) -> None:
        _lines(axes, sweep, dimensions)
        for place, axis in enumerate(dimensions):
            _upright(axes, place, axis)
        axes.set_title(sweep.name if several else "", pad=32)
        axes.set(xlim=(-0.1, len(dimensions) - 0.5), ylim=(-0.04, 1.04))
        axes.set_axis_off()

    title = f"{sweep.name}: hyperparameters and accuracy of {counted(len(sweep.trials), 'trial')}"
    return Panel(
        title, paint, 50 + APART * len(dimensions), 350 if several else 324, Margins(44, 6, 66 if several else 40, 8)
    )


def _upright(axes: Axes, place: int, axis: Axis) -> None:
    axes.axvline(place, linewidth=1.2, **coloured("ink"))
    axes.text(place, 1.05, axis.name, ha="center", va="bottom", fontweight="bold")
    behind = {"facecolor": PALETTE["paper"], "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
    for height, text in axis.ticks:
        axes.text(place + 0.05, height, text, va="center", fontsize=11, bbox=behind)


def axes_of(trials: Sequence[Trial]) -> list[Axis]:
    """An axis for every hyperparameter that differs between trials, and the accuracy."""
    values = [trial.hyperparameters.model_dump() for trial in trials]
    varying = [name for name in values[0] if len({each[name] for each in values}) > 1]
    return [
        *(_axis(name, [each[name] for each in values]) for name in varying),
        _linear("accuracy", [100 * trial.best_accuracy for trial in trials], "{:.1f}%"),
    ]


def _axis(name: str, values: Sequence[Any]) -> Axis:
    label = name.replace("_", " ")
    if isinstance(values[0], str | bool):
        return _choices(label, [str(value) for value in values])
    if name in LOGARITHMIC and min(values) > 0:
        return _logarithmic(label, values)
    return _linear(label, values, "{:.3g}")


def _linear(name: str, values: Sequence[float], form: str) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        return Axis(name, (0.5,) * len(values), ((0.5, form.format(low)),))
    heights = tuple((value - low) / (high - low) for value in values)
    return Axis(name, heights, ((0.0, form.format(low)), (1.0, form.format(high))))


def _logarithmic(name: str, values: Sequence[float]) -> Axis:
    """The ends, and the powers of ten that keep off them."""
    low, high = math.log10(min(values)), math.log10(max(values))
    places = {power: (power - low) / (high - low) for power in range(math.ceil(low), math.floor(high) + 1)}
    powers = [(place, f"{10.0**power:g}") for power, place in places.items() if 0.08 < place < 0.92]
    ends = (0.0, f"{min(values):.2g}"), (1.0, f"{max(values):.2g}")
    return Axis(name, tuple((math.log10(value) - low) / (high - low) for value in values), (*powers, *ends))


def _choices(name: str, values: Sequence[str]) -> Axis:
    names = sorted(set(values))
    heights = {each: index / (len(names) - 1) for index, each in enumerate(names)}
    ticks = tuple((height, fill(each, WORDS)) for each, height in heights.items())
    return Axis(name, tuple(heights[value] for value in values), ticks)


def _lines(axes: Axes, sweep: SweepRecord, dimensions: Sequence[Axis]) -> None:
    ranked = sorted(sweep.trials, key=lambda trial: trial.best_accuracy)
    strong = ranked[-max(1, len(ranked) // 4) :]
    for trial in ranked:
        heights = [axis.heights[trial.number - 1] for axis in dimensions]
        style = coloured("found", **STRONG) if trial in strong else coloured("faint", **WEAK)
        if trial is sweep.winner:
            style = coloured("found", **WINNER)
        ended = trial.steps >= sweep.course.steps
        (line,) = axes.plot(range(len(dimensions)), heights, linestyle="-" if ended else STOPPED, **style)
        tip(line, f"trial {trial.number}: {listed(trial.hyperparameters)}; {100 * trial.best_accuracy:.1f}%")
