"""ReLU against what a search finds, from the pruned network of a run, where a training takes an hour: no finalists.

    python -m safs_ray.tune CONFIGURATION ...              # until its pruned network is there; Ctrl-C then
    python benchmarks/rows.py RUN_FOLDER OUTPUT relu
    python benchmarks/rows.py RUN_FOLDER OUTPUT found      # beside it, in a process of its own

The row "relu" trains the pruned network for final.epochs with its own operators and pruning.hyperparameters; "found"
does so with the operators that one chain of search.steps evaluations finds with the same hyperparameters, and learns
their scales. So the rows have one recipe, and the validation images alone choose the operators. A run compares the best
of a search with ReLU by several whole trainings of each before the last ones; here every row is trained once, and
nothing keeps a worse one from being told.

OUTPUT keeps the network of every row, and rows.json. A row that stands there is not made again; one that is interrupted
goes on from its last checkpoint, a search from its beginning. Prints every evaluation and every epoch of the rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safs_ray import config, stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.network import Network
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN_FOLDER", type=Path)
    parser.add_argument("output", metavar="OUTPUT", type=Path)
    parser.add_argument("row", choices=["relu", "found"])
    arguments = parser.parse_args()
    run, output = config.load(arguments.run / "config.yaml", []), Folder.at(str(arguments.output))
    stages.set_up(run)
    pruned = Result.load(Folder.at(str(arguments.run)) / "networks" / "pruned")
    if pruned is None:
        parser.error(f"{arguments.run} has no pruned network yet")
    folder = output / arguments.row
    if Result.load(folder) is None:
        finish(run, pruned.network, arguments.row, folder)
    write(output, pruned)


def finish(run: Configuration, pruned: Network, row: str, folder: Folder) -> None:
    """Train a row, and keep it."""
    dataset = stages.load(run)
    checkpoints = Checkpoints(folder / "checkpoints", run.run.checkpoint_seconds)
    recipe = Recipe(pruned.assignment, run.pruning.hyperparameters, learn_scales=False)
    if row == "found":
        recipe = found(run, pruned, dataset, folder)
    splits = stages.folds(run, dataset).final(0)
    context = Context(run, splits, report=told(row, run.final.epochs), checkpoints=checkpoints)
    stages.finish(pruned, context, recipe, fold=0).save(folder)
    checkpoints.clear()


def found(run: Configuration, pruned: Network, dataset: Dataset, folder: Folder) -> Recipe:
    """What a search finds, or has found before an interruption; it leaves every evaluation beside it."""
    if not folder.exists("recipe.json"):
        context = Context(run, stages.folds(run, dataset).search())
        search = stages.search(pruned, context, run.pruning.hyperparameters, told=show)
        evaluations = [
            {"phase": each.phase, "assignment": each.assignment, "validation": each.validation_accuracy}
            | {"core_seconds": round(each.core_seconds)}
            for each in search.evaluations
        ]
        folder.write_json("evaluations.json", evaluations)
        folder.write_json("recipe.json", search.recipe.as_json())
    return Recipe.from_json(folder.read_json("recipe.json"))


def show(evaluation: Evaluation) -> None:
    """Print an evaluation of the search."""
    operators, accuracy = " ".join(dict.fromkeys(evaluation.assignment)), evaluation.validation_accuracy
    print(f"{time.strftime('%H:%M:%S')}  {evaluation.phase} {operators}, validation {accuracy:.1%}", flush=True)


def told(what: str, epochs: int) -> Callable[[int, float], None]:
    """Print an epoch, and when all will be done."""
    begun: list[tuple[int, float]] = []

    def tell(epoch: int, accuracy: float) -> None:
        begun.append((epoch, time.monotonic()))
        (first, start), (last, now) = begun[0], begun[-1]
        each = (now - start) / (last - first) if last > first else 0.0
        left = f", {each * (epochs - epoch) / 60:.0f} min left" if each else ""
        print(f"{time.strftime('%H:%M:%S')}  {what} {epoch} of {epochs}, validation {accuracy:.1%}{left}", flush=True)

    return tell


def write(output: Folder, pruned: Result) -> None:
    """rows.json: the rows that are there."""
    rows: dict[str, Any] = {"weights": pruned.network.nonzero_weights, "pruned": numbers(pruned)}
    for row in ("relu", "found"):
        if result := Result.load(output / row):
            rows[row] = {**numbers(result), "assignment": result.network.assignment}
    if (output / "found").exists("evaluations.json"):
        rows["evaluations"] = (output / "found").read_json("evaluations.json")
    output.write_json("rows.json", rows)
    print(json.dumps(rows, indent=1))


def numbers(result: Result) -> dict[str, Any]:
    return {
        "validation": result.validation_accuracy,
        "test": result.test_accuracy,
        "core_seconds": round(result.core_seconds),
    }


if __name__ == "__main__":
    main()
