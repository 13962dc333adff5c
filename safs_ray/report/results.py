"""results.json: the table of a run, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import mean, stdev
from typing import Any

from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import METRICS, Result
from safs_ray.storage import DamagedError, Folder

RESULTS = "results.json"

Finalists = dict[str, dict[str, dict[str, Any]]]
"""By sweep and trial: validation_accuracy of its trainings, as a row of the table has it, and core_seconds of all."""


def table(
    starts: Mapping[str, Result],
    finals: Mapping[str, Sequence[Result]],
    evaluations: Sequence[Evaluation],
    finalists: Finalists,
) -> list[dict[str, Any]]:
    """The rows of the table, each with what it cost from the first image on.

    Args:
        starts: the network that the final evaluation of each sparse row began from.
        finals: the final evaluation of each row, and of "dense" where that network is known, by fold.
        evaluations: of all sweeps of the run.
        finalists: of all sweeps that had several.
    """
    dense_seconds, rows = 0.0, []
    if "dense" in finals:
        dense_seconds = finals["dense"][0].core_seconds
        rows.append(_row("dense", finals["dense"], 0, dense_seconds))
    for name, start in starts.items():
        search = search_cost(leading_to(name, evaluations), finalists)
        final = sum(result.core_seconds for result in finals[name])
        seconds = dense_seconds + start.core_seconds + search["core_seconds"] + final
        rows.append(_row(name, finals[name], search["evaluations"], seconds))
    return rows


def finalists(run: Folder) -> Finalists:
    """What is known of the finalists of each sweep of a run, from its folder."""
    folder = run / "networks" / "finalists"
    found = {
        sweep: {trial: _trainings(folder / sweep / trial) for trial in (folder / sweep).folders()}
        for sweep in folder.folders()
    }
    return {
        sweep: {
            trial: {
                "validation_accuracy": _spread([metrics["validation_accuracy"] for metrics in trainings]),
                "core_seconds": sum(metrics["core_seconds"] for metrics in trainings),
            }
            for trial, trainings in trials.items()
            if trainings
        }
        for sweep, trials in found.items()
    }


def _trainings(folder: Folder) -> list[dict[str, Any]]:
    """The metrics of the trainings of a finalist that are complete."""
    trainings = []
    for seed in folder.folders():
        with suppress(FileNotFoundError, DamagedError):
            trainings.append((folder / seed).read_json(METRICS))
    return trainings


def leading_to(row: str, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations without which a row of the table would not be known."""
    if row == "stage 1":
        return [evaluation for evaluation in leading_to("SAFS", evaluations) if evaluation.phase == "search"]
    sweeps = {"SAFS": ("stage 1", "SAFS"), "stage 2": ("stage 2",)}.get(row, ())
    return [evaluation for evaluation in evaluations if evaluation.sweep in sweeps]


def best_of(folds: Sequence[Result]) -> Result:
    """The fold of the highest validation accuracy; its test accuracy decides nothing."""
    return max(folds, key=lambda result: result.validation_accuracy)


def _row(name: str, folds: Sequence[Result], evaluations: int, core_seconds: float) -> dict[str, Any]:
    tests = [result.test_accuracy for result in folds if result.test_accuracy is not None]
    return {
        "name": name,
        "validation_accuracy": _spread([result.validation_accuracy for result in folds]),
        "test_accuracy": _spread(tests),
        "sparsity": folds[0].network.sparsity,
        "nonzero_weights": folds[0].network.nonzero_weights,
        "evaluations": evaluations,
        "core_seconds": core_seconds,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation; the deviation of a single value is None."""
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
