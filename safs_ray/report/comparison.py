"""The page that lays runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from safs_ray.config import Hyperparameters
from safs_ray.experiment import Row
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import groups as drawings
from safs_ray.report.groups import GAIN, Group, compared, differing, grounds, identity, measure_of
from safs_ray.report.page import environment
from safs_ray.report.record import Record
from safs_ray.report.wording import CONFIDENT, interval, listed, points, spread

PAGE = "comparison.html"

ORDER = tuple(Row)


def row_names(groups: Sequence[Group]) -> tuple[str, ...]:
    """The rows that a run of any group has, in the order of the table."""
    known = {row["name"] for group in groups for record in group.records for row in record.rows}
    return tuple(name for name in ORDER if name in known)


def figures(groups: Sequence[Group]) -> dict[str, Figure | Absent]:
    """Every figure of a comparison, by its name."""
    drawn = (
        drawings.accuracies(groups, row_names(groups)),
        drawings.progress(groups),
        drawings.found_functions(groups),
    )
    return {figure.name: figure.called(measure_of(groups)) for figure in drawn}


def render(groups: Sequence[Group], drawn: dict[str, Figure | Absent]) -> str:
    """The page as HTML."""
    names = row_names(groups)
    firsts = [group.records[0] for group in groups]
    return (
        environment()
        .get_template("comparison.html")
        .render(
            groups=groups,
            measure=measure_of(groups),
            names=names,
            figures=drawn,
            rows=[_row(group, names) for group in groups],
            differences=[_difference(group, groups[0], names) for group in groups[1:]],
            confident=CONFIDENT,
            runs=[_run(group, record, names) for group in groups for record in group.records],
            settings=[(key, [identity(first)[key] for first in firsts]) for key in differing(firsts)],
        )
    )


def _row(group: Group, names: Sequence[str]) -> dict[str, Any]:
    gain = group.estimate(GAIN)
    kept = sorted(
        {row["nonzero_weights"] for record in group.records for row in record.rows if row["name"] == Row.SAFS}
    )
    return {
        "label": group.label,
        "count": group.count,
        "cells": [spread(estimate.mean, estimate.sd) if (estimate := group.estimate(name)) else "" for name in names],
        "gain": points(gain.mean) if gain else "",
        "interval": interval(gain) if gain else "",
        "nonzero": " to ".join(f"{count:,}" for count in (kept if len(kept) < 2 else (kept[0], kept[-1]))),
    }


def _difference(group: Group, reference: Group, names: Sequence[str]) -> dict[str, Any]:
    differences = [compared(group, reference, name) for name in (*names, GAIN)]
    return {
        "label": group.label,
        "how": grounds(differences),
        "cells": [(points(each.estimate.mean), interval(each.estimate)) if each else ("", "") for each in differences],
    }


def _run(group: Group, record: Record, names: Sequence[str]) -> dict[str, Any]:
    """A line of the table of single runs."""
    rows = {row["name"]: row for row in record.rows}
    alone = Group(record.name, (record,))
    gain = alone.estimate(GAIN)
    return {
        "group": group.label,
        "name": record.name,
        "seed": record.configuration.run.seed,
        "finished": record.finished,
        "cells": [
            (
                f"{100 * rows[name]['test_accuracy']['mean']:.1f}",
                f"{100 * rows[name]['validation_accuracy']['mean']:.1f}",
            )
            if name in rows
            else ("", "")
            for name in names
        ],
        "gain": points(gain.mean) if gain else "",
        "found": " ".join(_operators(record)),
        "hyperparameters": _hyperparameters(record),
        "evaluations": f"{record.search_cost['evaluations']:,}",
        "core_seconds": f"{rows[Row.SAFS]['core_seconds']:,.0f}" if Row.SAFS in rows else "",
    }


def _operators(record: Record) -> Iterator[str]:
    if record.results:
        yield from (each["operator"] for each in record.results["assignment"].values())
    elif record.best_network:
        yield from record.best_network.assignment


def _hyperparameters(record: Record) -> str:
    return listed(Hyperparameters(**record.results["hyperparameters"])) if record.results else ""
