"""Ways to train a sparse network: cross-entropy, label smoothing, distillation, averaged weights. LeNet-5 on MNIST.

    python benchmarks/training.py DENSE_FOLDER OUTPUT [data.folder=MNIST_FOLDER] [--seeds 0 1 2]
        [--sparsities 0.99 0.995] [--pruners gradual gsm] [--ways cross-entropy distillation]

Every cell starts from the dense network of its seed, as tune_configs/best.yaml trains it; DENSE_FOLDER keeps it, for
these settings. It is pruned and then trained again with its own activations, as the row "pruned" of a table is, both in
the same way and for the same epochs whatever the way. Only the average is taken in the last training alone, of the
network that cross-entropy has pruned. Writes OUTPUT/training.json after every cell; cells that stand there are not made
again. Prints means and standard deviations over the seeds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from pruners import Cell, cells_in, parser_of_cells, spread, train_dense

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Folds
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context

SETTING = Path(__file__).parent.parent / "tune_configs" / "best.yaml"

PLAIN = {"label_smoothing": 0.0, "distillation": {"share": 0.0}, "average": 0.0}

WAYS: dict[str, dict[str, Any]] = {
    "cross-entropy": PLAIN,
    "smoothing": PLAIN | {"label_smoothing": 0.1},
    "distillation": PLAIN | {"distillation": {"share": 0.5, "temperature": 2.0}},
    "average": PLAIN | {"average": 0.25},
}
"""The section ``training`` of each."""


def main() -> None:
    parser = parser_of_cells(__doc__)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.99, 0.995])
    parser.add_argument("--pruners", nargs="+", default=["gradual", "gsm"], choices=config.RECIPES)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    file, cells = cells_in(arguments.output, "training.json")
    for seed in arguments.seeds:
        setting = configure(arguments.words, seed, 0.99, arguments.pruners[0], "cross-entropy")
        folds = stages.folds(setting, stages.load(setting))
        dense = train_dense(setting, folds, arguments.dense)
        teaching = stages.folds(setting, folds.dataset.taught(taught(setting, folds, dense)))
        pruned: dict[tuple[float, str, str], Result] = {}
        for sparsity, pruner, way in product(arguments.sparsities, arguments.pruners, arguments.ways):
            place = {"seed": seed, "sparsity": sparsity, "pruner": pruner, "way": way}
            if not any(place.items() <= cell.items() for cell in cells):
                run = configure(arguments.words, seed, sparsity, pruner, way)
                by = sparsity, pruner, "cross-entropy" if way == "average" else way
                if by not in pruned:
                    context = Context(configure(arguments.words, seed, *by), teaching.search())
                    pruned[by] = stages.prune(dense.network, context)
                cells.append({**place, **measure(run, teaching, pruned[by])})
                file.write_text(json.dumps(cells, indent=1) + "\n")
                print(json.dumps(cells[-1]), flush=True)
    show(cells)


def configure(words: Sequence[str], seed: int, sparsity: float, pruner: str, way: str) -> Configuration:
    """The setting of best.yaml with one recipe, trained in one way, on a single fold."""
    values = config.load(SETTING, ["final.folds=1", f"pruning.recipe={pruner}", *words, f"run.seed={seed}"])
    pruning = {**values.pruning.model_dump(mode="json"), "sparsity": sparsity}
    return config.validate({**values.model_dump(mode="json"), "pruning": pruning, "training": WAYS[way]})


def taught(setting: Configuration, folds: Folds, dense: Result) -> torch.Tensor:
    """The dense network's logits on the pool."""
    return stages.teach(dense, folds.dataset.pool, Context(setting, folds.search()))


def measure(run: Configuration, folds: Folds, pruned: Result) -> Cell:
    """What became of the pruned network when it was trained again."""
    recipe = Recipe(pruned.network.assignment, run.pruning.hyperparameters, learn_scales=False)
    last = stages.finish(pruned.network, Context(run, folds.final(0)), recipe, fold=0)
    return {
        "weights": last.network.nonzero_weights,
        "pruned": pruned.validation_accuracy,
        "validation": last.validation_accuracy,
        "test": last.test_accuracy,
        "core_seconds": round(pruned.core_seconds + last.core_seconds, 1),
    }


def show(cells: Sequence[Cell]) -> None:
    """Print test accuracies in per cent, mean ± sd over the seeds, and their differences from cross-entropy's."""
    print("| sparsity | pruner | weights | way | seeds | validation | test | against cross-entropy | core-s |")
    print("|" + "---|" * 9)
    plain = {key(cell): cell["test"] for cell in cells if cell["way"] == "cross-entropy"}
    groups = defaultdict(list)
    for cell in cells:
        groups[cell["sparsity"], cell["pruner"], list(WAYS).index(cell["way"])].append(cell)
    for (sparsity, pruner, way), own in sorted(groups.items()):
        gains = [cell["test"] - plain[key(cell)] for cell in own if key(cell) in plain]
        print(
            f"| {sparsity:.1%} | {pruner} | {own[0]['weights']:,} | {list(WAYS)[way]} | {len(own)} | "
            f"{spread([cell['validation'] for cell in own])} | {spread([cell['test'] for cell in own])} | "
            f"{spread(gains, sign='+') if gains else ''} | {mean(cell['core_seconds'] for cell in own):.0f} |"
        )


def key(cell: Cell) -> tuple[int, float, str]:
    return cell["seed"], cell["sparsity"], cell["pruner"]


if __name__ == "__main__":
    main()
