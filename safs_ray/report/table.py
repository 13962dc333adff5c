"""The table and the winning assignment, in a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def show(results: dict[str, Any], console: Console) -> None:
    """Print a run's results; within 80 columns."""
    finals = len(results["rows"][-1]["test_accuracy"]["values"])
    console.print(f"Accuracy in per cent, {f'mean ± sd of {finals} folds' if finals > 1 else 'one fold'}")
    console.print(_accuracies(results))
    console.print(f"The winner: alpha g(beta x) at every site{_division(results.get('groups', 1))}")
    console.print(_assignment(results))
    console.print(f"Its hyperparameters: {_listed(results['hyperparameters'])}", soft_wrap=True)
    search = results["search"]
    console.print(
        f"The search: {search['trials']} trials, {search['evaluations']} evaluations trained, "
        f"{search['evaluations_saved']} more saved by the board, {search['diverged']} diverged; "
        f"{results['wall_seconds'] / 60:.1f} min since the run was begun or resumed",
        soft_wrap=True,
    )


def _accuracies(results: dict[str, Any]) -> Table:
    table = Table(**STYLE)
    table.add_column("network")
    for heading in ("validation", "test", "gain", "sparsity", "nonzero", "trained", "core-s"):
        table.add_column(heading, justify="right", no_wrap=True)
    pruned = next(row for row in results["rows"] if row["name"] == "pruned")
    for row in results["rows"]:
        gain = row["test_accuracy"]["mean"] - pruned["test_accuracy"]["mean"]
        table.add_row(
            row["name"],
            _percent(row["validation_accuracy"]),
            _percent(row["test_accuracy"]),
            f"{100 * gain:+.1f}" if row["name"] not in ("dense", "pruned") else "",
            f"{100 * row['sparsity']:.2f}",
            f"{row['nonzero_weights']:,}",
            f"{row['evaluations']:,}" if row["evaluations"] else "",
            f"{row['core_seconds']:,.0f}",
            style="bold" if row["name"] == "SAFS" else None,
        )
    return table


def _percent(spread: dict[str, Any]) -> str:
    deviation = "" if spread["sd"] is None else f" ± {100 * spread['sd']:.1f}"
    return f"{100 * spread['mean']:.1f}{deviation}"


def _division(groups: int) -> str:
    return f", .0 to .{groups - 1} for blocks of its channels" if groups > 1 else ""


def _assignment(results: dict[str, Any]) -> Table:
    table = Table(**STYLE)
    for heading in ("site", "operator g"):
        table.add_column(heading)
    for heading in ("alpha", "beta"):
        table.add_column(heading, justify="right")
    for site, activation in results["assignment"].items():
        table.add_row(site, activation["operator"], f"{activation['alpha']:.3f}", f"{activation['beta']:.3f}")
    return table


def _listed(hyperparameters: dict[str, Any]) -> str:
    unused = () if hyperparameters["optimizer"] == "sgd" else ("momentum",)
    shown = {name: value for name, value in hyperparameters.items() if name not in unused and value is not False}
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in shown.items()
    )
