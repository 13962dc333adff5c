"""Record the evaluation of every assignment of lenet5_digits.yaml, for strategies.py to search in.

    python benchmarks/record_evaluations.py

takes about 40 minutes of one core. Stopped at any time, it goes on where it was. Every training is kept whole, as its
curve over 40 epochs: the learning rate is constant, so that a shorter evaluation is the beginning of a longer one.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.evaluation import evaluation_key
from safs_ray.training import Context, Trainer, Training

FOLDER = Path(__file__).parent
SETTING = FOLDER / "lenet5_digits.yaml"
TABLE = FOLDER / "evaluations.parquet"
EPOCHS = 40
EVERY = 20
"""Evaluations between two writes of the table."""

SCHEMA = pa.schema(
    {
        "assignment": pa.list_(pa.string()),
        "validation_accuracy": pa.list_(pa.float64()),  # after every epoch
        "core_seconds": pa.float64(),
    }
)


def prepare(configuration: Configuration) -> tuple[Network, Training]:
    """The pruned network, and how an evaluation trains it."""
    torch.set_num_threads(1)
    pruned, context = pruned_network(configuration)
    seed = derive(context.seed, "evaluation")
    training = Training(context, configuration.pruning.hyperparameters, configuration.search.epochs, seed)
    return pruned, training


def pruned_network(configuration: Configuration) -> tuple[Network, Context]:
    """The network that a search starts from, made as a run makes it, and what it was made with."""
    dataset = stages.load(configuration)
    context = Context(configuration, stages.folds(configuration, dataset).search())
    dense = stages.train_dense(stages.specify(configuration, dataset, context.splits), context)
    return stages.prune(dense.network, context).network, context


def record() -> None:
    """Evaluate what the table lacks."""
    configuration = config.load(SETTING)
    network, training = prepare(configuration)
    training = replace(training, epochs=EPOCHS)
    setting = evaluation_key(network, network.assignment, training)
    rows = read(setting)
    done = {tuple(row["assignment"]) for row in rows}
    operators = configuration.search.operators
    space = list(itertools.product(operators, repeat=len(network.sites)))
    space.sort(key=lambda assignment: max(map(operators.index, assignment)))  # whole spaces of the first operators
    for candidate in (assignment for assignment in space if assignment not in done):
        start = time.process_time()
        curve = train(network, candidate, training)
        core_seconds = time.process_time() - start
        rows.append({"assignment": candidate, "validation_accuracy": curve, "core_seconds": core_seconds})
        if len(rows) % EVERY == 0 or len(rows) == len(space):
            write(rows, setting)
            print(f"{len(rows)} of {len(space)}", flush=True)


def train(network: Network, candidate: Assignment, training: Training) -> list[float]:
    """Validation accuracy after every epoch; 0 for those that a divergence left out."""
    curve = Trainer([network.assign(candidate)], training).run().standing.curve
    return [*curve, *[0.0] * (training.epochs - len(curve))]


def read(setting: str) -> list[dict[str, Any]]:
    """The rows recorded so far.

    Raises:
        SystemExit: they are of another network or training; another machine may make other bits of the same.
    """
    if not TABLE.exists():
        return []
    table = pq.read_table(TABLE)
    if table.schema.metadata.get(b"setting") != setting.encode():
        raise SystemExit(f"{TABLE} was recorded with another network or training; move it away to begin anew")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def write(rows: list[dict[str, Any]], setting: str) -> None:
    """Replace the table, whole."""
    part = TABLE.with_suffix(".part")
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({"setting": setting}))
    pq.write_table(table, part, compression="zstd", compression_level=19)
    part.replace(TABLE)


if __name__ == "__main__":
    record()
