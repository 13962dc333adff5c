"""What an experiment has found: the table, row by row, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import mean, stdev
from typing import Any

from safs_ray.experiment.pruners import Tried
from safs_ray.experiment.rows import Row
from safs_ray.experiment.stage import DEFAULT
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.recipe import Recipe
from safs_ray.stages import METRICS, Result
from safs_ray.storage import DamagedError, Folder

TableRow = dict[str, Any]
"""A row of results.json."""

Finalists = dict[str, dict[str, dict[str, Any]]]
"""By sweep and trial: validation_accuracy of its trainings, as a row of the table has it, core_seconds of all, and won.

That is not there in runs of before it was decided by standard errors: the highest mean won.
"""


def results(
    best: Result,
    recipe: Recipe,
    starts: Mapping[Row, Result],
    finals: Mapping[Row, Sequence[Result]],
    evaluations: Sequence[Evaluation],
    finalists: Finalists,
    tried: Tried,
) -> dict[str, Any]:
    """What an experiment has found.

    Args:
        best: the network to deploy.
        recipe: of the last row.
        starts, finals, evaluations, finalists, tried: as of :func:`table`.
    """
    return {
        "rows": table(starts, finals, evaluations, finalists, tried),
        "assignment": best.network.activations(),
        "groups": best.network.groups,
        "hyperparameters": recipe.hyperparameters.model_dump(),
        "search": search_cost(leading_to(Row.SAFS, evaluations), finalists),
        "finalists": finalists,
        "pruners": tried,
    }


def table(
    starts: Mapping[Row, Result],
    finals: Mapping[Row, Sequence[Result]],
    evaluations: Sequence[Evaluation],
    finalists: Finalists,
    tried: Tried,
) -> list[TableRow]:
    """The rows of the table, each with what it cost from the first image on.

    Args:
        starts: the network that the final evaluation of each sparse row began from.
        finals: the final evaluation of each row, and of the dense network where that is known, by fold.
        evaluations: of all sweeps of the run.
        finalists: of all sweeps.
        tried: pruners, of which the best one has made the pruned network.
    """
    dense_seconds, rows = 0.0, []
    others = sum(known["core_seconds"] for known in tried.values())
    if Row.DENSE in finals:
        dense_seconds = finals[Row.DENSE][0].core_seconds
        rows.append(_row(Row.DENSE, finals[Row.DENSE], 0, dense_seconds))
    for row, start in starts.items():
        search = search_cost(leading_to(row, evaluations), finalists)
        final = sum(result.core_seconds for result in finals[row])
        pruning = others or start.core_seconds
        seconds = dense_seconds + pruning + search["core_seconds"] + final
        rows.append(_row(row, finals[row], search["evaluations"], seconds))
    return rows


def read_finalists(folder: Folder) -> Finalists:
    """What is known of the finalists of each sweep, from the folder of their trainings."""
    finalists = {
        sweep: {trial: _trainings(folder / sweep / trial) for trial in (folder / sweep).folders()}
        for sweep in folder.folders()
    }
    return {
        sweep: {
            trial: again(
                [metrics["validation_accuracy"] for metrics in trainings],
                [metrics["core_seconds"] for metrics in trainings],
                won=False,  # all of them are known only where results.json says so
            )
            for trial, trainings in trials.items()
            if trainings
        }
        for sweep, trials in finalists.items()
    }


def again(accuracies: Sequence[float], core_seconds: Sequence[float], won: bool) -> dict[str, Any]:
    """What the trainings of a finalist tell of it."""
    return {"validation_accuracy": spread(accuracies), "core_seconds": sum(core_seconds), "won": won}


def won_by_default(finalists: Finalists, sweep: Sweep) -> bool:
    """Whether a sweep has found nothing better than the default recipe."""
    known = finalists.get(sweep, {})
    if DEFAULT not in known:
        return False
    highest = max(trial["validation_accuracy"]["mean"] for trial in known.values())
    return bool(known[DEFAULT].get("won", known[DEFAULT]["validation_accuracy"]["mean"] == highest))


def _trainings(folder: Folder) -> list[dict[str, Any]]:
    """The metrics of the trainings of a finalist that are complete."""
    trainings = []
    for seed in folder.folders():
        with suppress(FileNotFoundError, DamagedError):
            trainings.append((folder / seed).read_json(METRICS))
    return trainings


def leading_to(row: Row, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations without which a row of the table would not be known."""
    leading = [evaluation for evaluation in evaluations if evaluation.sweep in row.sweeps]
    if row is Row.OPERATORS:
        return [evaluation for evaluation in leading if evaluation.phase == "search"]
    return leading


def best_of(folds: Sequence[Result]) -> Result:
    """The fold of the highest validation accuracy; its test accuracy decides nothing."""
    return max(folds, key=lambda result: result.validation_accuracy)


def _row(row: Row, folds: Sequence[Result], evaluations: int, core_seconds: float) -> TableRow:
    tests = [result.test_accuracy for result in folds if result.test_accuracy is not None]
    return {
        "name": str(row),
        "validation_accuracy": spread([result.validation_accuracy for result in folds]),
        "test_accuracy": spread(tests),
        "sparsity": folds[0].network.sparsity,
        "nonzero_weights": folds[0].network.nonzero_weights,
        "evaluations": evaluations,
        "core_seconds": core_seconds,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation of values; the deviation of a single one is None."""
    return {
        "mean": mean(values),
        "sd": stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def search_cost(evaluations: Sequence[Evaluation], finalists: Finalists) -> dict[str, Any]:
    """What a search took: evaluations trained and saved, diverged ones, trials, CPU time with that of the finalists."""
    sweeps = {evaluation.sweep for evaluation in evaluations}
    again = [
        trial["core_seconds"] for sweep, trials in finalists.items() if sweep in sweeps for trial in trials.values()
    ]
    scored = [evaluation for evaluation in evaluations if evaluation.phase == "search"]
    return {
        "trials": len({(evaluation.sweep, evaluation.trial) for evaluation in evaluations}),
        "evaluations": sum(not evaluation.repeated for evaluation in scored),
        "evaluations_saved": sum(evaluation.repeated for evaluation in scored),
        "diverged": sum(evaluation.diverged for evaluation in evaluations),
        "core_seconds": sum(evaluation.core_seconds for evaluation in evaluations) + sum(again),
    }
