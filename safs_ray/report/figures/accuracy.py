"""The rows of the table as points on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from safs_ray.experiment import Row
from safs_ray.experiment.results import TableRow
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Panel, coloured, tip
from safs_ray.report.intervals import estimate
from safs_ray.report.record import Record

ROW = 30


def draw(record: Record) -> Figure | Absent:
    """Test accuracy of every row, fold by fold."""
    name, title = "accuracy", "Test accuracy"
    rows = record.rows
    if not rows:
        return Absent(name, title, "The table has no rows yet: the final evaluation comes at the end.")
    several = any(len(row["test_accuracy"]["values"]) > 1 for row in rows)
    caption = (
        "Each dot is one fold. The stroke is the mean of the folds, and the pale bar is the 95% interval of that mean "
        "by Student’s t. If bars overlap widely, more folds or seeds are needed to tell the rows apart."
        if several
        else "Each dot is a row of the table, measured once. A single fold says nothing about the spread between seeds."
    )
    panel = Panel(
        "Test accuracy of each row in per cent",
        lambda axes: _rows(axes, rows),
        width=420,
        height=ROW * len(rows) + 50,
        margins=Margins(left=66, top=8, right=16),
    )
    return Figure(name, title, caption, (panel,))


def _rows(axes: Axes, rows: Sequence[TableRow]) -> None:
    for place, row in enumerate(rows):
        _row(axes, place, row)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], color=PALETTE["ink"])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="test accuracy, per cent")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _row(axes: Axes, place: int, row: TableRow) -> None:
    values = [100 * value for value in row["test_accuracy"]["values"]]
    mean = estimate(values)
    colour = coloured({Row.SAFS: "found", Row.PRUNED: "default"}.get(row["name"], "ink"))
    if mean.low is not None and mean.high is not None:
        axes.plot([max(0, mean.low), min(100, mean.high)], [place, place], linewidth=6, alpha=0.3, **colour)
    axes.plot(values, [place] * len(values), "o", markersize=5.5, **colour)
    (middle,) = axes.plot([mean.mean], [place], "|", markersize=20, markeredgewidth=2, **colour)
    tip(middle, f"{row['name']}: {mean.mean:.1f}%")
