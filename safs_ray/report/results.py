"""results.json: the table of a run, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import Result

RESULTS = "results.json"


def table(
    pruned: Result, finals: Mapping[str, Sequence[Result]], evaluations: Sequence[Evaluation]
) -> list[dict[str, Any]]:
    """The rows of the table.

    Args:
        pruned: the network that every sparse row was trained from.
        finals: the final evaluation of the rows "pruned", "SAFS" and, where it is known, "dense", by fold.
    """
    search = search_cost(evaluations)
    seconds = {row: sum(result.core_seconds for result in folds) for row, folds in finals.items()}
    before = seconds.get("dense", 0.0) + pruned.core_seconds
    dense = [_row("dense", finals["dense"], 0, seconds["dense"])] if "dense" in finals else []
    return [
        *dense,
        _row("pruned", finals["pruned"], 0, before + seconds["pruned"]),
        _row("SAFS", finals["SAFS"], search["evaluations"], before + search["core_seconds"] + seconds["SAFS"]),
    ]


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


def search_cost(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What a search took: evaluations trained and saved, diverged ones, trials, CPU time."""
    scored = [evaluation for evaluation in evaluations if evaluation.phase == "search"]
    return {
        "trials": len({evaluation.trial for evaluation in evaluations}),
        "evaluations": sum(not evaluation.repeated for evaluation in scored),
        "evaluations_saved": sum(evaluation.repeated for evaluation in scored),
        "diverged": sum(evaluation.diverged for evaluation in evaluations),
        "core_seconds": sum(evaluation.core_seconds for evaluation in evaluations),
    }
