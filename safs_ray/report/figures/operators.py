"""Operators by site and by success."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from safs_ray.config import counted
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Panel, coloured, tip
from safs_ray.report.record import Record
from safs_ray.report.sweeps import Trial

NAME, TITLE = "operators", "Operators by site and by success"
CAPTION = (
    "Each cell shows how many points of validation accuracy the candidates with this operator at this site lay above "
    "(+, blue) or below (−, red) the mean of their own trial. The small figure is their number: a large difference of "
    "few candidates means little. Frames mark the winner."
)
CELL, ROW = 66, 26
ANY = "any site"
UPRIGHT = 9
"""Letters of a site's name for which a column is wide enough; longer ones are slanted."""
FRAME: dict[str, Any] = {"fill": False, "linewidth": 2, "edgecolor": PALETTE["ink"]}


@dataclass(frozen=True)
class Success:
    """Of the candidates with one operator at one site.

    Attributes:
        points: mean difference of their validation accuracy from the mean of their own trial, in per cent.
        candidates: how many there were, without repeated ones.
    """

    points: float
    candidates: int


def draw(record: Record) -> Figure | Absent:
    """A matrix of operators and sites."""
    trials = [trial for sweep in record.sweeps for trial in sweep.trials if trial.search]
    sites = len(trials[0].search[0].assignment) if trials else 0
    success_of = successes(trials)
    if not success_of:
        return Absent(NAME, TITLE, "No evaluations of candidates were kept with this run.")
    network = record.best_network
    names = list(network.sites) if network else [f"site {number}" for number in range(1, sites + 1)]
    won = network.assignment if network else ()
    operators = sorted(
        {operator for operator, _ in success_of}, key=lambda operator: -success_of[operator, None].points
    )
    longest = max(map(len, names))
    slant = 5 * longest if longest > UPRIGHT else 0
    margins = Margins(left=30 + 7 * max(map(len, operators)), right=8 + slant, top=34 + slant, bottom=6)
    panel = Panel(
        "Success of every operator at every site",
        lambda axes: _matrix(axes, success_of, operators, names, won),
        width=margins.left + CELL * (sites + 1) + margins.right,
        height=margins.top + ROW * len(operators) + margins.bottom,
        margins=margins,
    )
    return Figure(NAME, TITLE, CAPTION, (panel,))


def successes(trials: Sequence[Trial]) -> dict[tuple[str, int | None], Success]:
    """By operator and index of the site; None is any site, where an assignment counts once for each of its sites."""
    points: dict[tuple[str, int | None], list[float]] = {}
    for operator, site, advantage in _advantages(trials):
        points.setdefault((operator, site), []).append(advantage)
        points.setdefault((operator, None), []).append(advantage)
    return {place: Success(mean(values), len(values)) for place, values in points.items()}


def _advantages(trials: Sequence[Trial]) -> Iterator[tuple[str, int, float]]:
    for trial in trials:
        own = [evaluation for evaluation in trial.search if not evaluation.repeated]
        for evaluation in own:
            usual = mean(each.validation_accuracy for each in own)
            for site, operator in enumerate(evaluation.assignment):
                yield operator, site, 100 * (evaluation.validation_accuracy - usual)


def _matrix(
    axes: Axes,
    success_of: Mapping[tuple[str, int | None], Success],
    operators: Sequence[str],
    sites: Sequence[str],
    won: Sequence[str],
) -> None:
    most = max(1.0, *(abs(success.points) for success in success_of.values()))
    columns = [None, *range(len(sites))]
    for row, operator in enumerate(operators):
        for column, site in enumerate(columns):
            if success := success_of.get((operator, site)):
                _cell(axes, row, column, success, most)
    for column, operator in enumerate(won, start=1):
        if operator in operators:
            row = operators.index(operator)
            axes.add_patch(Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, **FRAME))
    axes.set_yticks([row + 0.5 for row in range(len(operators))], operators, color=PALETTE["ink"])
    axes.set_xticks([column + 0.5 for column in range(len(columns))], [ANY, *sites], color=PALETTE["ink"])
    axes.tick_params(bottom=False, labeltop=True, labelbottom=False)
    if max(map(len, sites)) > UPRIGHT:
        for label in axes.get_xticklabels():
            label.set(rotation=45, horizontalalignment="left", rotation_mode="anchor")
    axes.axvline(1, linewidth=1.4, **coloured("faint"))
    axes.set(xlim=(0, len(columns)), ylim=(len(operators), 0))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _cell(axes: Axes, row: int, column: int, success: Success, most: float) -> None:
    points, colour = round(success.points, 1) + 0.0, "found" if success.points > 0 else "default"
    strength = 0.75 * abs(success.points) / most
    corner = (column + 0.02, row + 0.04)
    patch = axes.add_patch(Rectangle(corner, 0.96, 0.92, linewidth=0, alpha=strength, **coloured(colour)))
    tip(patch, f"{points:+.1f} points, {counted(success.candidates, 'candidate')}")
    text = f"{points:+.1f}".replace("-", "−") if points else "0.0"
    axes.text(column + 0.62, row + 0.5, text, ha="right", va="center", fontsize=11)
    axes.text(column + 0.68, row + 0.52, f"{success.candidates}", va="center", fontsize=8.5, **coloured("faint"))
