"""Pruners at several sparsities, with and without the search of activations: LeNet-5 on MNIST or other images.

    python benchmarks/pruners.py DENSE_FOLDER OUTPUT [data.folder=MNIST_FOLDER] [--seeds 0 1 2] [--sparsities 0.9 0.99]
        [--pruners layer gradual] [--rates 1e-3 1e-2]

Every cell starts from the dense network of its seed, as tune_configs/lenet5_mnist.yaml trains it; DENSE_FOLDER keeps
it, for these settings. The pruned network is then trained for the same number of epochs with ReLU, and with the
operators and scales that a short search finds, at each learning rate. Writes OUTPUT/pruners.json after every cell;
cells that stand there are not made again: an OUTPUT is for one set of images. Prints means and standard deviations
over the seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from safs_ray import config, stages
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Folds
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, digest

SETTING = Path(__file__).parent.parent / "tune_configs" / "lenet5_mnist.yaml"

SEARCH = {"steps": 16, "epochs": 4, "lahc": {"walks": 4}}
"""Four walks of Late Acceptance Hill Climbing of four steps each, trained side by side."""

EPOCHS = 16
"""Of the last training."""

RATES = [1e-3, 1e-2]
"""Learning rates of the search and of the last training: the published default, and one that suits sparse networks."""

ADAM = {"learning_rate": 2e-3, "weight_decay": 1e-4, "schedule": "cosine"}
NESTEROV = {"optimizer": "sgd", "nesterov": True, "momentum": 0.99, "learning_rate": 1e-2, "weight_decay": 2e-3}

PRUNERS: dict[str, dict[str, Any]] = {
    "layer": {"allocation": "layer"},
    "global": {"allocation": "global"},
    "ERK": {"allocation": "erk"},
    "SynFlow": {"allocation": "global", "score": "synflow"},
    "random": {"allocation": "erk", "score": "random"},
    "SNIP": {"allocation": "global", "score": "snip"},
    "GraSP": {"allocation": "global", "score": "grasp"},
    "gradual": {"allocation": "global", "schedule": "gradual", "epochs": 20, "hyperparameters": ADAM},
    "RigL": {"allocation": "erk", "schedule": "rigl", "epochs": 20, "hyperparameters": ADAM},
    "GSM": {
        "allocation": "global",
        "schedule": "gsm",
        "epochs": 20,
        "hyperparameters": {**NESTEROV, "schedule": "cosine"},
    },
    "envelope": {"allocation": "global", "schedule": "envelope", "epochs": 20, "hyperparameters": ADAM},
    "turbo-vbi": {"allocation": "global", "schedule": "turbo-vbi", "epochs": 20, "hyperparameters": ADAM},
    "SWAMP": {
        "allocation": "global",
        "schedule": "swamp",
        "fraction": 0.6,
        "particles": 2,
        "epochs": 2,
        "hyperparameters": ADAM | {"schedule": "constant"},
    },
}
"""The section ``pruning`` of each, without its sparsity. Those without a schedule prune in one shot, untrained."""

Cell = dict[str, Any]


def main() -> None:
    parser = parser_of_cells(__doc__)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.99])
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS), choices=PRUNERS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    file, cells = cells_in(arguments.output, "pruners.json")
    made = {(*key(cell), rate["learning_rate"]) for cell in cells for rate in cell["rates"]}
    for seed in arguments.seeds:
        setting = configure(arguments.words, seed)
        folds = stages.folds(setting, stages.load(setting))
        dense = train_dense(setting, folds, arguments.dense)
        for sparsity, pruner in product(arguments.sparsities, arguments.pruners):
            if not all((seed, sparsity, pruner, rate) in made for rate in arguments.rates):
                cell = measure(configure(arguments.words, seed, sparsity, pruner), folds, dense, arguments.rates)
                cells = [old for old in cells if key(old) != (seed, sparsity, pruner)]
                cells.append({"seed": seed, "sparsity": sparsity, "pruner": pruner, **cell})
                file.write_text(json.dumps(cells, indent=1) + "\n")
                print(seed, sparsity, pruner, json.dumps(cell["rates"]), flush=True)
    show(cells)


def parser_of_cells(documentation: str | None) -> argparse.ArgumentParser:
    """What a benchmark takes that starts from dense networks and keeps cells."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", metavar="DENSE_FOLDER", type=Path)
    parser.add_argument("output", metavar="OUTPUT", type=Path)
    parser.add_argument("words", nargs="*", metavar="key.path=value", help="of the configuration, such as data.source")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser


def cells_in(output: Path, name: str) -> tuple[Path, list[Cell]]:
    """The file that keeps the cells, in a folder that is there from now on, and those that it holds."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / name
    return file, json.loads(file.read_text()) if file.exists() else []


def key(cell: Cell) -> tuple[int, float, str]:
    return cell["seed"], cell["sparsity"], cell["pruner"]


def configure(words: Sequence[str], seed: int, sparsity: float = 0.99, pruner: str = "layer") -> Configuration:
    """The setting of the published run, with a short search."""
    values = config.load(SETTING, [*words, f"run.seed={seed}"]).model_dump(mode="json")
    pruning = {"epochs": 0, **PRUNERS[pruner], "sparsity": sparsity}
    final = {**values["final"], "epochs": EPOCHS}
    return config.validate({**values, "pruning": pruning, "search": SEARCH, "final": final})


def train_dense(setting: Configuration, folds: Folds, kept: Path) -> Result:
    """The dense network of a seed, from the folder where it lies there for such settings."""
    sections = (section.model_dump(mode="json") for section in (setting.data, setting.model, setting.dense))
    folder = Folder.at(str(kept / f"seed{setting.run.seed}-{digest(*sections)[:8]}"))
    result = Result.load(folder)
    if result is None:
        context = Context(setting, folds.search())
        result = stages.train_dense(stages.specify(setting, folds.dataset, context.splits), context)
        result.save(folder)
    return result


def measure(run: Configuration, folds: Folds, dense: Result, rates: Sequence[float]) -> Cell:
    """What became of the dense network under one pruner at one sparsity."""
    pruned = stages.prune(dense.network, Context(run, folds.search()))
    return {
        "weights": pruned.network.nonzero_weights,
        "survey": pruned.network.survey.summary,
        "beside_another": beside_another(pruned.network.masks),
        "test_accuracy": stages.test(pruned, Context(run, folds.final(0))).test_accuracy,
        "core_seconds": round(pruned.core_seconds),
        "rates": [compare(run, folds, pruned, rate) for rate in rates],
    }


def beside_another(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Of the weights that are kept, how many have one that is kept on any side in the matrix of their layer."""
    shares = {}
    for name, mask in masks.items():
        kept = torch.nn.functional.pad(mask.flatten(1), (1, 1, 1, 1))
        around = kept[1:-1, :-2] | kept[1:-1, 2:] | kept[:-2, 1:-1] | kept[2:, 1:-1]
        shares[name] = round(int((mask.flatten(1) & around).sum()) / max(1, int(mask.sum())), 3)
    return shares


def compare(run: Configuration, folds: Folds, pruned: Result, rate: float) -> dict[str, Any]:
    """The pruned network trained with ReLU, and with what a search finds, at one learning rate."""
    chosen = Hyperparameters(learning_rate=rate, weight_decay=1e-4, batch_size=256, schedule="cosine")
    searched, last = Context(run, folds.search()), Context(run, folds.final(0))
    plain = Recipe(pruned.network.assignment, chosen, learn_scales=False)
    relu = stages.finish(pruned.network, last, plain, fold=0)
    found = stages.search(pruned.network, searched, chosen)
    safs = stages.finish(pruned.network, last, found.recipe, fold=0)
    searching = sum(evaluation.core_seconds for evaluation in found.evaluations)
    return {
        "learning_rate": rate,
        "assignment": found.assignment,
        "core_seconds": round(searching),
        "relu": {"validation": relu.validation_accuracy, "test": relu.test_accuracy},
        "safs": {"validation": safs.validation_accuracy, "test": safs.test_accuracy},
    }


def show(cells: Sequence[Cell]) -> None:
    """Print test accuracies in per cent: mean ± sd over the seeds."""
    print("| sparsity | pruner | weights | as pruned | core-s | learning rate | seeds | ReLU | SAFS | gain |")
    print("|" + "---|" * 10)
    groups = defaultdict(list)
    for cell in cells:
        for rate in cell["rates"]:
            groups[cell["sparsity"], list(PRUNERS).index(cell["pruner"]), rate["learning_rate"]].append((cell, rate))
    for (sparsity, place, learning_rate), pairs in sorted(groups.items(), key=lambda group: group[0]):
        own, rates = zip(*pairs, strict=True)
        gains = [rate["safs"]["test"] - rate["relu"]["test"] for rate in rates]
        print(
            f"| {sparsity:.1%} | {list(PRUNERS)[place]} | {own[0]['weights']:,} | "
            f"{spread([cell['test_accuracy'] for cell in own])} | {mean(cell['core_seconds'] for cell in own):.0f} | "
            f"{learning_rate:g} | {len(pairs)} | {spread([rate['relu']['test'] for rate in rates])} | "
            f"{spread([rate['safs']['test'] for rate in rates])} | {spread(gains, sign='+')} |"
        )


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation in per cent."""
    percents = [100 * value for value in values]
    deviation = f" ± {stdev(percents):.1f}" if len(percents) > 1 else ""
    return f"{mean(percents):{sign}.1f}{deviation}"


if __name__ == "__main__":
    main()
