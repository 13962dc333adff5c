"""What a run cost, in the CPU time of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from safs_ray.config import counted
from safs_ray.experiment import Row, rows_of
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Panel, coloured
from safs_ray.report.record import Record
from safs_ray.report.wording import seconds
from safs_ray.search.evaluation import Evaluation

NAME, TITLE = "cost", "What it cost"
ROW = 28
SAVED = "saved by the board"
HATCHED: dict[str, Any] = {"hatch": "////", "facecolor": PALETTE["paper"], "edgecolor": PALETTE["faint"]}


def draw(record: Record) -> Figure | Absent:
    """A bar for every part of the run, and for what the board saved."""
    parts = parts_of(record)
    if not parts:
        return Absent(NAME, TITLE, "Nothing is finished yet.")
    saved, count = saved_by_board(record.evaluations)
    known = record.search_cost["evaluations_saved"]
    caption = (
        "The bars show the CPU time of each part of the run, over all threads and machines; the total is "
        f"{sum(parts.values()):,.0f} core-seconds. The board answered {counted(known, 'evaluation')} from earlier ones"
    )
    caption += f", which saved the {seconds(saved)} of the hatched bar." if count else "."
    panel = Panel(
        "; ".join(f"{part}: {seconds(value)}" for part, value in parts.items()),
        lambda axes: _bars(axes, parts, saved),
        width=420,
        height=ROW * (len(parts) + bool(saved)) + 20,
        margins=Margins(left=158, right=70, top=8, bottom=12),
    )
    return Figure(NAME, TITLE, caption, (panel,))


def parts_of(record: Record) -> dict[str, float]:
    """Core-seconds by part of the run, without parts that took none."""
    parts = _measured(record) if record.evaluations else _of_table(record)
    return {part: taken for part, taken in parts.items() if taken > 0}


def _measured(record: Record) -> dict[str, float]:
    """From the stages and evaluations themselves."""
    parts: dict[str, float] = {}
    for part, stage in (("dense training", "dense"), ("pruning", "pruned"), ("pruning, found", "pruned-found")):
        if metrics := record.metrics(stage):
            parts[part] = metrics["core_seconds"]
    for sweep in record.sweeps:
        for phase, what in (("search", "candidates"), ("fine-tuning", "fine-tuning")):
            steps = (each for trial in sweep.trials for each in trial.evaluations if each.phase == phase)
            parts[f"{sweep.name}, {what}"] = sum(each.core_seconds for each in steps)
        again = record.finalists.get(sweep.name, {}).values()
        parts[f"{sweep.name}, finalists"] = sum(each["core_seconds"] for each in again)
    for row in rows_of(record.configuration):
        if row is not Row.DENSE:
            folds = (record.metrics(stage) or {} for stage in record.folds(row))
            parts[f"last training, {row}"] = sum(fold["core_seconds"] for fold in folds)
    return parts


def _of_table(record: Record) -> dict[str, float]:
    """From results.json alone: what led to the row SAFS."""
    rows = {row["name"]: row["core_seconds"] for row in record.rows}
    if Row.SAFS not in rows:
        return {}
    dense, search = rows.get(Row.DENSE, 0.0), record.search_cost["core_seconds"]
    return {
        "dense training": dense,
        "search": search,
        "pruning, last training": rows[Row.SAFS] - dense - search,
    }


def saved_by_board(evaluations: Sequence[Evaluation]) -> tuple[float, int]:
    """Core-seconds and number of the evaluations that were not trained again."""
    first: Mapping[str, float] = {
        each.key: each.core_seconds for each in reversed(evaluations) if each.key and not each.repeated
    }
    repeated = [each for each in evaluations if each.repeated]
    return sum(first.get(each.key, 0.0) for each in repeated), len(repeated)


def _bars(axes: Axes, parts: Mapping[str, float], saved: float) -> None:
    values = [*parts.values(), *([saved] if saved else [])]
    names = [*parts, SAVED][: len(values)]
    for place, value in enumerate(values):
        style = HATCHED if names[place] == SAVED else coloured("found")
        axes.barh(place, value, height=0.6, **style)
        axes.text(value + 0.015 * max(values), place, seconds(value), va="center")
    axes.set_yticks(range(len(names)), names, color=PALETTE["ink"])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.02 * max(values)))
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
