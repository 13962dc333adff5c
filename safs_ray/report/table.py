"""Tables in a terminal: of one run, and of runs that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from safs_ray.config import Hyperparameters, counted
from safs_ray.experiment import Row
from safs_ray.experiment.pruners import words
from safs_ray.experiment.results import TableRow, won_by_default
from safs_ray.report.groups import GAIN, Difference, Group, compared, gain, grounds, measure_of
from safs_ray.report.intervals import Estimate
from safs_ray.report.wording import (
    CONFIDENT,
    NOTHING_BETTER,
    called,
    interval,
    listed,
    of_budget,
    percent,
    points,
    spread,
)
from safs_ray.search.course import Sweep

STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def show(results: dict[str, Any], console: Console) -> None:
    """Print a run's results; within 80 columns."""
    measure = results.get("metric", "accuracy")  # of runs before there were others
    show_rows(results["rows"], measure, console)
    if tried := results.get("pruners"):
        console.print(f"Pruners tried, validation {measure}: {words(tried)}", soft_wrap=True)
    for line in of_budget(results.get("budget")):
        console.print(line, soft_wrap=True)
    if won_by_default(results.get("finalists", {}), Sweep.SAFS):
        console.print(NOTHING_BETTER, soft_wrap=True)
    elif certain := _certainty(results["rows"]):
        console.print(certain, soft_wrap=True)
    network = "The winner" if results["search"]["trials"] else "The network"
    console.print(f"{network}: alpha g(beta x) at every site{_division(results.get('groups', 1))}")
    console.print(_assignment(results))
    chosen = Hyperparameters(**results["hyperparameters"])
    console.print(f"Its hyperparameters: {listed(chosen)}", soft_wrap=True)
    took = f"{results['wall_seconds'] / 60:.1f} min since the run was begun or resumed"
    console.print(f"{_searched(results['search'])}; {took}", soft_wrap=True)


def _searched(search: Mapping[str, Any]) -> str:
    """What the search did."""
    if not search["trials"]:
        return "No search"
    return (
        f"The search: {counted(search['trials'], 'trial')}, {counted(search['evaluations'], 'evaluation')} trained, "
        f"{search['evaluations_saved']} more saved by the board, {search['diverged']} diverged"
    )


def _certainty(rows: Sequence[TableRow]) -> str:
    """Whether the gain of the row SAFS can be told from zero; empty without both rows."""
    named = {row["name"]: row for row in rows}
    if Row.SAFS not in named or Row.PRUNED not in named:
        return ""
    gained = gain(named[Row.SAFS], named[Row.PRUNED])
    if gained.low is None:
        return "One fold does not tell how certain the gain is."
    verdict = "the search has gained" if gained.mean > 0 else "the search has lost"
    return (
        f"The gain of SAFS lies in {interval(gained)} points ({CONFIDENT} interval, Student's t over the folds): "
        f"{verdict if gained.certain else 'it cannot be told from zero'}"
    )


def show_rows(rows: Sequence[TableRow], measure: str, console: Console) -> None:
    """Print how good the networks of a run are, by the metric of this name."""
    finals = len(rows[-1]["test_accuracy"]["values"])
    folds = f"mean ± sd of {finals} folds" if finals > 1 else "one fold"
    console.print(called(f"Accuracy in per cent, {folds}", measure))
    console.print(_accuracies(rows))


def _accuracies(rows: Sequence[TableRow]) -> Table:
    table = Table(**STYLE)
    table.add_column("network")
    for heading in ("validation", "test", "gain", "sparsity", "nonzero", "trained", "core-s"):
        table.add_column(heading, justify="right", no_wrap=True)
    pruned = next((row for row in rows if row["name"] == Row.PRUNED), None)
    for row in rows:
        gained = pruned and row["name"] not in (Row.DENSE, Row.PRUNED)
        table.add_row(
            row["name"],
            percent(row["validation_accuracy"]),
            percent(row["test_accuracy"]),
            points(gain(row, pruned).mean) if pruned and gained else "",
            f"{100 * row['sparsity']:.2f}",
            f"{row['nonzero_weights']:,}",
            f"{row['evaluations']:,}" if row["evaluations"] else "",
            f"{row['core_seconds']:,.0f}",
            style="bold" if row["name"] == Row.SAFS else None,
        )
    return table


def _division(groups: int) -> str:
    return f", .0 to .{groups - 1} for blocks of its channels" if groups > 1 else ""


def _assignment(results: Mapping[str, Any]) -> Table:
    table = Table(**STYLE)
    for heading in ("site", "operator g"):
        table.add_column(heading)
    for heading in ("alpha", "beta"):
        table.add_column(heading, justify="right")
    for site, activation in results["assignment"].items():
        table.add_row(site, activation["operator"], f"{activation['alpha']:.3f}", f"{activation['beta']:.3f}")
    return table


def show_groups(groups: Sequence[Group], names: Sequence[str], console: Console) -> None:
    """Print every group's accuracies, and how the others differ from the first.

    Args:
        names: of the rows to show.
    """
    means = "mean ± sd of a group's seeds, or of a single run's folds"
    console.print(f"Test {measure_of(groups)} in per cent, {means}", soft_wrap=True)
    console.print(_groups(groups, names))
    if len(groups) > 1:
        caption = f"Difference from {groups[0].label} in points, with its {CONFIDENT} interval by Student's t"
        console.print(caption, soft_wrap=True)
        console.print(_differences(groups, names))


def _groups(groups: Sequence[Group], names: Sequence[str]) -> Table:
    table = _compared_table(names)
    for group in groups:
        cells = [_cell(group.estimate(name), signed=False) for name in names]
        table.add_row(f"{group.label}\n{group.count}", *cells, _cell(group.estimate(GAIN), signed=True))
    return table


def _cell(estimate: Estimate | None, signed: bool) -> str:
    if estimate is None:
        return ""
    if signed:
        return points(estimate.mean)
    return spread(estimate.mean, estimate.sd)


def _differences(groups: Sequence[Group], names: Sequence[str]) -> Table:
    table = _compared_table(names)
    for group in groups[1:]:
        cells = [compared(group, groups[0], name) for name in (*names, GAIN)]
        table.add_row(f"{group.label}\n{grounds(cells)}", *(_pair(each) for each in cells))
    return table


def _pair(difference: Difference | None) -> str:
    """A difference above its interval."""
    if difference is None:
        return ""
    estimate = difference.estimate
    return f"{points(estimate.mean)}\n{interval(estimate).replace(' to ', '…')}"


def _compared_table(names: Sequence[str]) -> Table:
    table = Table(**STYLE)
    table.add_column("group")
    for name in (*names, GAIN):
        table.add_column(name, justify="right", no_wrap=True)
    return table
