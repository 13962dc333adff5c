"""Measure how well short evaluations rank candidates as long ones do.

    python benchmarks/ranking.py

trains what ranking.parquet lacks (in all about 5 minutes of one core), then prints the table of README.md.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from record_evaluations import FOLDER, SETTING, prepare, train
from scipy.stats import spearmanr

from safs_ray import config
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import random_assignment
from safs_ray.training import Training

CURVES = FOLDER / "ranking.parquet"
CANDIDATES = 32
LONG, SHORT = 40, 20
"""Epochs of the trainings that tell the truth, and of those that are scored."""

RUNS = {"truth 1": LONG, "truth 2": LONG, "shared 1": SHORT, "shared 2": SHORT, "own": SHORT}
"""Trainings of each candidate and their epochs. All candidates see the same batches in a run, but in "own"."""

Curves = npt.NDArray[np.float64]
"""Validation accuracy of one run by candidate and epoch."""


def main() -> None:
    configuration = config.load(SETTING)
    curves = record(configuration.search.operators, *prepare(configuration))
    for line in table(curves):
        print(line)


def record(operators: tuple[str, ...], network: Network, training: Training) -> dict[str, Curves]:
    """The curves of every run, trained where the file lacks them."""
    draws = random.Random(derive(0, "ranking"))
    candidates = [random_assignment(operators, len(network.sites), draws) for _ in range(CANDIDATES)]
    rows = pq.read_table(CURVES).to_pylist() if CURVES.exists() else []
    done = {(row["run"], row["candidate"]) for row in rows}
    for index, candidate in enumerate(candidates):
        for run, epochs in RUNS.items():
            if (run, index) not in done:
                seed = derive(0, "ranking", run, index if run == "own" else "all")
                curve = train(network, candidate, replace(training, epochs=epochs, seed=seed))
                rows.append({"run": run, "candidate": index, "assignment": candidate, "validation_accuracy": curve})
        pq.write_table(pa.Table.from_pylist(rows), CURVES, compression="zstd")
        print(f"{index + 1} of {CANDIDATES}", flush=True)
    ordered = sorted(rows, key=lambda row: row["candidate"])
    return {run: np.array([row["validation_accuracy"] for row in ordered if row["run"] == run]) for run in RUNS}


def table(curves: dict[str, Curves]) -> list[str]:
    """Rank correlation with the truth, for each way of scoring, in Markdown."""
    truths = [curves[run].max(1) for run in ("truth 1", "truth 2")]
    truth = (truths[0] + truths[1]) / 2
    lines = ["| epochs | trainings | batches | score | rank correlation | points lost by taking the first |"]
    lines.append("|---|---|---|---|---|---|")
    for epochs in (2, 5, 10, 20):
        first, second, own = (curves[run][:, :epochs] for run in ("shared 1", "shared 2", "own"))
        ways = {
            ("1", "shared", "best epoch"): first.max(1),
            ("1", "shared", "last epoch"): first[:, -1],
            ("1", "each its own", "best epoch"): own.max(1),
            ("2", "shared", "best epoch"): (first.max(1) + second.max(1)) / 2,
        }
        for (trainings, batches, score), scores in ways.items():
            lines.append(f"| {epochs} | {trainings} | {batches} | {score} | {compared(scores, truth)} |")
    lines.append(f"| {LONG} | 1 | shared | best epoch | {compared(*truths)} |")
    return lines


def compared(scores: Curves, truth: Curves) -> str:
    """Spearman's correlation with its 90 % bootstrap interval over candidates, and what the first in rank lacks."""
    draws = np.random.default_rng(0)
    samples = draws.integers(len(truth), size=(2000, len(truth)))
    low, high = np.quantile([correlation(scores[sample], truth[sample]) for sample in samples], (0.05, 0.95))
    lost = 100 * (truth.max() - truth[scores == scores.max()].mean())
    return f"{correlation(scores, truth):.2f} ({low:.2f} to {high:.2f}) | {lost:.1f}"


def correlation(scores: Curves, truth: Curves) -> float:
    return float(spearmanr(scores, truth).statistic)


if __name__ == "__main__":
    main()
