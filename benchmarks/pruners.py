"""Pruners with and without the search of activations: LeNet-5 on MNIST, 442 of 44,190 weights.

    python benchmarks/pruners.py MNIST_FOLDER results/pruners

Every row starts from one dense network. Its sparse network is then trained twice for the same number of epochs: with
ReLU, and with the operators and scales that a short search finds. Writes OUTPUT/pruners.json after every row; rows that
stand there are not made again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from safs_ray import config, stages
from safs_ray.stages import Result

COMMON: dict[str, Any] = {
    "data": {"source": "mnist", "validation": 1 / 6},
    "model": {"name": "lenet5"},
    "dense": {
        "epochs": 10,
        "hyperparameters": {"learning_rate": 2e-3, "weight_decay": 1e-4, "schedule": "cosine"},
    },
    "search": {"steps": 8, "epochs": 2},
    "finetune": {"epochs": 1, "epochs_per_step": 1},
    "final": {"folds": 1, "epochs": 10},
}

ADAM = {"learning_rate": 2e-3, "weight_decay": 1e-4, "schedule": "cosine"}
NESTEROV = {"optimizer": "sgd", "nesterov": True, "momentum": 0.99, "learning_rate": 1e-2, "weight_decay": 2e-3}
CONSTANT = {**ADAM, "schedule": "constant"}

ROWS: dict[str, dict[str, Any]] = {
    "one shot": {"allocation": "global", "hyperparameters": ADAM},
    "gradual": {"allocation": "global", "schedule": "gradual", "hyperparameters": ADAM},
    "synflow": {"allocation": "global", "score": "synflow", "hyperparameters": ADAM},
    "rigl": {"allocation": "erk", "schedule": "rigl", "hyperparameters": ADAM},
    "gsm": {"allocation": "global", "schedule": "gsm", "hyperparameters": {**NESTEROV, "schedule": "cosine"}},
    "swamp": {
        "allocation": "global",
        "schedule": "swamp",
        "fraction": 0.6,
        "particles": 2,
        "epochs": 2,
        "hyperparameters": CONSTANT,
    },
}
"""The section ``pruning`` of each row, without its sparsity and, where they are 20, its epochs."""

LAST = config.Hyperparameters(learning_rate=5e-3, weight_decay=1e-4, schedule="cosine")
"""Of the search and of the last training of every row, whatever trained it before."""


def measure(folder: str, name: str, dense: Result | None) -> tuple[Result, dict[str, Any]]:
    """One row of the table: the dense network, made where it is not given, and what became of it."""
    section = {"sparsity": 0.99, "epochs": 20, **ROWS[name]}
    run = config.validate({**COMMON, "data": {**COMMON["data"], "folder": folder}, "pruning": section})
    cpu = torch.device("cpu")
    data = stages.load(run)
    folds = stages.folds(run, data)
    dense = dense or stages.train_dense(run, data, folds.search(), cpu)
    pruned = stages.prune(dense.network, run, folds.search(), cpu)
    found = stages.search(pruned.network, run, folds.search(), LAST, cpu)
    last = folds.final(0)
    relu = stages.finish(pruned.network, run, last, 0, LAST, False, cpu)
    safs = stages.finish(pruned.network.assign(found.assignment), run, last, 0, LAST, True, cpu)
    return dense, {
        "pruning": run.pruning.model_dump(mode="json"),
        "weights": pruned.network.nonzero_weights,
        "survey": pruned.network.survey().summary,
        "assignment": found.assignment,
        "test_accuracy": {
            "pruned": stages.test(pruned, last, cpu, "auto").test_accuracy,
            "relu": relu.test_accuracy,
            "SAFS": safs.test_accuracy,
        },
        "core_seconds": {"pruning": pruned.core_seconds, "relu": relu.core_seconds, "SAFS": safs.core_seconds},
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print test accuracies in per cent."""
    table = Table("pruner", "weights", "as pruned", "ReLU, trained on", "SAFS", "gain", "operators")
    for name, row in rows.items():
        accuracy = row["test_accuracy"]
        percents = [f"{100 * accuracy[key]:.1f}" for key in ("pruned", "relu", "SAFS")]
        gain = f"{100 * (accuracy['SAFS'] - accuracy['relu']):+.1f}"
        table.add_row(name, str(row["weights"]), *percents, gain, " ".join(row["assignment"]))
    Console(width=120).print(table)


def main(folder: str, output: Path) -> None:
    """Make the rows that are missing, one after the other."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    file = output / "pruners.json"
    rows: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    dense: Result | None = None
    for name in ROWS:
        if name not in rows:
            dense, rows[name] = measure(folder, name, dense)
            file.write_text(json.dumps(rows, indent=1) + "\n")
            show(rows)
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
