"""The page of one run: report.html, one file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader

from safs_ray.config import AUTO, CONFIGURATION, Configuration, ConfigurationError, Hyperparameters, counted
from safs_ray.experiment import Row, rows_of
from safs_ray.experiment.results import TableRow, won_by_default
from safs_ray.experiment.stage import DEFAULT
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import (
    accuracy,
    cost,
    functions,
    gradients,
    halving,
    hyperparameters,
    operators,
    sparsity,
    trajectories,
)
from safs_ray.report.groups import gain
from safs_ray.report.record import Record, flattened
from safs_ray.report.wording import CONFIDENT, NOTHING_BETTER, called, interval, listed, of_budget, percent, points
from safs_ray.search.course import Sweep
from safs_ray.storage import shown

MEANINGS = {
    Row.DENSE: "before pruning",
    Row.PRUNED: "its own activations, default hyperparameters",
    Row.OPERATORS: "operators found, default hyperparameters",
    Row.SCALES: "its own activations with learned scales, searched hyperparameters",
    Row.SAFS: "operators found, with learned scales, searched hyperparameters",
}


def environment() -> Environment:
    """The templates; every value that they show is escaped."""
    return Environment(loader=PackageLoader("safs_ray.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def figures(record: Record) -> dict[str, Figure | Absent]:
    """Every figure of a run, by its name; one that cannot be drawn says why."""
    images = record.images
    drawn = (
        accuracy.draw(record),
        functions.draw(record, images.inputs if images else None),
        operators.draw(record),
        trajectories.draw(record),
        halving.draw(record),
        hyperparameters.draw(record),
        sparsity.draw(record),
        gradients.draw(record, images),
        cost.draw(record),
    )
    return {figure.name: figure.called(record.measure) for figure in drawn}


def render(record: Record, drawn: Mapping[str, Figure | Absent], written: datetime) -> str:
    """The page as HTML.

    Args:
        drawn: what :func:`figures` gives.
        written: the time that an unfinished run's page names.
    """
    return (
        environment()
        .get_template("page.html")
        .render(
            record=record,
            figures=drawn,
            summary=_summary(record),
            status=[] if record.finished else list(status(record)),
            measured=partial(called, measure=record.measure),
            written=f"{written:%-d %B %Y at %H:%M}",
            rows=[_row(row, record.rows) for row in record.rows],
            spread=_spread(record.rows),
            certainty=_certainty(record),
            budget=" ".join(f"{line}." for line in of_budget((record.results or {}).get("budget"))),
            winner=_winner(record),
            groups=record.best_network.groups if record.best_network else (record.results or {}).get("groups", 1),
            hyperparameters=_hyperparameters(record),
            search=_search(record),
            trials=list(_trials(record)),
            pruners=list(_pruners(record)),
            command=_command(record),
            changed=list(changed(record.configuration)),
        )
    )


def _summary(record: Record) -> str:
    """What was done, and what came of it, in two sentences."""
    run = record.configuration
    what = f"{run.model.name} on {run.data.source}, {_pruning(record)}."
    rows = {row["name"]: row for row in record.rows}
    if Row.SAFS not in rows or Row.PRUNED not in rows:
        return what
    if won_by_default(record.finalists, Sweep.SAFS):
        return f"{what} {NOTHING_BETTER} It reaches {percent(rows['pruned']['test_accuracy'])}% test {record.measure}."
    test, gained = rows[Row.SAFS]["test_accuracy"], gain(rows[Row.SAFS], rows[Row.PRUNED]).mean
    direction = "above" if gained >= 0 else "below"
    outcome = (
        f" The activations and hyperparameters found reach {percent(test)}% test {record.measure} with "
        f"{counted(rows[Row.SAFS]['nonzero_weights'], 'weight')}, {abs(100 * gained):.1f} points {direction} the "
        "pruned network"
    )
    dense = f"; {100 * rows['dense']['test_accuracy']['mean']:.1f}% before pruning" if "dense" in rows else ""
    return f"{what}{outcome} ({percent(rows['pruned']['test_accuracy'])}%{dense})."


def _pruning(record: Record) -> str:
    pruning = record.configuration.pruning
    if record.configuration.model.pruned:
        return "already pruned"
    if not pruning.sparsity:
        return "not pruned"
    structure = "" if pruning.structure == "unstructured" else f"structure {pruning.structure}, "
    of_what = f" of the {pruning.structure}" if pruning.prunes_channels else ""
    goal = f"{100 * pruning.sparsity:g}% sparsity{of_what}"
    if pruning.macs is not None:
        goal = f"{100 * pruning.macs:g}% of the multiply-adds"
    if pruning.recipe == AUTO:
        best = next(iter((record.results or {}).get("pruners", {})), f"the best of {len(pruning.tried)}")
        return f"pruned to {goal} by {structure}recipe {best}"
    return (
        f"pruned to {goal} by {pruning.score}, allocation {pruning.allocation}, {structure}schedule {pruning.schedule}"
    )


def status(record: Record) -> Iterator[tuple[str, str]]:
    """What is done of an unfinished run, part by part."""
    for stage in ["pruned"] if record.configuration.model.pruned else ["dense", "pruned"]:
        metrics = record.metrics(stage)
        yield (
            f"network “{stage}”",
            f"validation {100 * metrics['validation_accuracy']:.1f}%" if metrics else "not there yet",
        )
    for sweep in record.sweeps:
        ended = sum(trial.fate != "open" for trial in sweep.trials)
        best = f"best validation {100 * sweep.winner.best_accuracy:.1f}%"
        if again := record.finalists.get(sweep.name):
            best += f", {counted(len(again), 'finalist')} trained again"
        begun = f"{len(sweep.trials)} of {counted(sweep.planned, 'trial')} begun"
        yield f"sweep “{sweep.name}”", f"{begun}, {ended} ended, {best}"
    rows = [row for row in rows_of(record.configuration) if row is not Row.DENSE]
    done = sum(len(record.folds(row)) for row in rows)
    yield "final evaluation", f"{done} of {counted(len(rows) * record.configuration.final.folds, 'training')} done"


def _row(row: TableRow, rows: list[TableRow]) -> dict[str, Any]:
    """A row of the table in words."""
    pruned = next((other for other in rows if other["name"] == "pruned"), None)
    gained = gain(row, pruned) if pruned and row["name"] not in ("dense", "pruned") else None
    return {
        "name": row["name"],
        "meaning": MEANINGS[row["name"]],
        "validation": percent(row["validation_accuracy"]),
        "test": percent(row["test_accuracy"]),
        "gain": points(gained.mean) if gained else "",
        "interval": interval(gained) if gained else "",
        "sparsity": f"{100 * row['sparsity']:.2f}",
        "nonzero": f"{row['nonzero_weights']:,}",
        "evaluations": f"{row['evaluations']:,}" if row["evaluations"] else "",
        "core_seconds": f"{row['core_seconds']:,.0f}",
    }


def _spread(rows: list[TableRow]) -> str:
    folds = len(rows[-1]["test_accuracy"]["values"]) if rows else 0
    return f"mean ± standard deviation of {folds} folds" if folds > 1 else "one fold"


def _certainty(record: Record) -> str:
    """How far the gain of the row SAFS is to be trusted."""
    rows = {row["name"]: row for row in record.rows}
    if Row.SAFS not in rows or Row.PRUNED not in rows:
        return ""
    gained = gain(rows[Row.SAFS], rows[Row.PRUNED])
    if gained.low is None:
        return (
            "With one fold nothing is known of the uncertainty of the gain: run more seeds, and pass all their folders "
            "to python -m safs_ray.report."
        )
    verdict = "which excludes 0" if gained.certain else "which includes 0, so this run alone shows no difference"
    return (
        f"Each gain has its {CONFIDENT} interval below it, by Student’s t over the differences of the folds; that of "
        f"SAFS is {interval(gained)} points, {verdict}. Folds share most of their images, so seeds differ by more."
    )


def _winner(record: Record) -> dict[str, functions.Activation]:
    try:
        return functions.learned(record)
    except ConfigurationError:  # a user's own operator is not here; the figure says so
        return {}


def _hyperparameters(record: Record) -> str:
    if record.results:
        return listed(Hyperparameters(**record.results["hyperparameters"]))
    leading = [sweep.winner for sweep in record.sweeps if sweep.name is not Sweep.SCALES]
    return listed(leading[-1].hyperparameters) if leading else ""


def _search(record: Record) -> str:
    run, taken = record.configuration, record.search_cost
    trials = counted(taken["trials"], "trial")
    if run.search.protocol == "staged":
        trials += f", including {counted(run.search.chains, 'chain')} of stage 1"
    return (
        f"Protocol {run.search.protocol}, strategy {run.search.strategy}, hyperparameters by {run.tune.searcher}. The "
        f"search ran {trials}, and trained {counted(taken['evaluations'], 'evaluation')} of candidates; "
        f"{taken['evaluations_saved']:,} more came from the board, and {taken['diverged']:,} diverged."
    )


def _trials(record: Record) -> Iterator[dict[str, Any]]:
    for sweep in record.sweeps:
        finalists = record.finalists.get(sweep.name, {})
        for trial in sweep.trials:
            yield {
                "sweep": sweep.name,
                "number": trial.number,
                "name": trial.name,
                "hyperparameters": listed(trial.hyperparameters),
                "steps": trial.steps,
                "fate": trial.fate,
                "best": f"{100 * trial.best_accuracy:.1f}",
                "again": percent(finalists[trial.name]["validation_accuracy"]) if trial.name in finalists else "",
                "assignment": " ".join(trial.best_assignment),
                "won": trial is sweep.winner and not won_by_default(record.finalists, sweep.name),
            }
        if DEFAULT in finalists:
            yield _default(record, sweep.name)


def _default(record: Record, sweep: Sweep) -> dict[str, Any]:
    """The row of the default recipe among the trials."""
    return {
        "sweep": sweep,
        "name": DEFAULT,
        "hyperparameters": listed(record.configuration.pruning.hyperparameters),
        "again": percent(record.finalists[sweep][DEFAULT]["validation_accuracy"]),
        "assignment": "the network's own",
        "won": won_by_default(record.finalists, sweep),
    }


def _pruners(record: Record) -> Iterator[dict[str, Any]]:
    """The pruners that were tried, the best first."""
    for number, (name, known) in enumerate((record.results or {}).get("pruners", {}).items()):
        tries = zip(known["epochs"], known["validation_accuracy"], strict=True)
        yield {
            "name": name,
            "tries": ", ".join(f"{100 * accuracy:.1f} ({counted(epochs, 'epoch')})" for epochs, accuracy in tries),
            "core_seconds": f"{known['core_seconds']:,.0f}",
            "won": number == 0,
        }


def _command(record: Record) -> str:
    again = f"run.name={record.name}-again"
    if record.folder.root:
        return f"python -m safs_ray.tune {CONFIGURATION} {again}   # {CONFIGURATION} copied from {record.folder}"
    return f"python -m safs_ray.tune {shlex.quote(shown(record.folder / CONFIGURATION))} {again}"


def changed(configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Key, value and default of all that differs from the defaults, but for the name, place and machine of the run."""
    defaults = flattened(Configuration())
    for key, value in flattened(configuration).items():
        if value != defaults[key] and key not in ("run.name", "run.storage", "run.costs"):
            yield key, value, defaults[key]
