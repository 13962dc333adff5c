"""How far 442 weights of LeNet-5 can go on MNIST when every layer keeps the same share.

    python benchmarks/reach.py MNIST_FOLDER DENSE_FOLDER… [--epochs 40]

takes dense networks (``networks/dense`` of runs), prunes each by magnitude to 1 % of every layer, and prints

- the outputs that a path of weights leads to from the pixels, and the ceiling: any other output gives the same logit
  for every image, so that at most one class of those is ever told. A network that makes no other mistake has this
  validation accuracy;
- for every learning rate, and from the weights that are left or new ones from N(0, 1), the best validation accuracy of
  ReLU, and of 15 random assignments beside it the median and the best.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.flow import linearised
from safs_ray.randomness import derive, generator
from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.storage import Folder
from safs_ray.training import Cohort, Training

SETTING = Path(__file__).parent.parent / "tune_configs" / "lenet5_mnist.yaml"
CPU = torch.device("cpu")
RATES = (1e-3, 5e-3, 2e-2)
ASSIGNMENTS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", metavar="MNIST_FOLDER")
    parser.add_argument("dense", metavar="DENSE_FOLDER", nargs="+", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    configuration = config.load(SETTING, [f"data.folder={arguments.mnist}"])
    splits = stages.folds(configuration, stages.load(configuration)).search()
    draws = random.Random(0)
    candidates = [random_assignment(configuration.search.operators, 4, draws) for _ in range(ASSIGNMENTS)]
    print("| network | outputs reached | ceiling | weights | learning rate | ReLU | median | best | of |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number, folder in enumerate(arguments.dense):
        network = stages.prune(Network.load(Folder.at(str(folder))), configuration, splits, CPU).network
        reached, ceiling = _ceiling(network, splits)
        for weights, start in {"left": network, "new": _renewed(network, number)}.items():
            for rate in RATES:
                found = _trained(start, candidates, rate, arguments.epochs, configuration, splits)
                print(
                    f"| {number} | {reached} | {ceiling:.1%} | {weights} | {rate:g} | {found[0][0]:.1%} | "
                    f"{median(accuracy for accuracy, _ in found[1:]):.1%} | {max(found)[0]:.1%} | "
                    f"{' '.join(max(found)[1])} |",
                    flush=True,
                )


def _ceiling(network: Network, splits: Splits) -> tuple[int, float]:
    """How many outputs are reached, and the validation accuracy of a network that tells all that it can."""
    pixels = torch.ones_like(network.specification.example()[:1], dtype=torch.float64)
    reached = linearised(network.build(), network.sites)(pixels)[0] > 0
    shares = splits.validation.labels.bincount(minlength=len(reached)) / len(splits.validation)
    told = shares[reached].sum() + (shares[~reached].max() if not reached.all() else 0)
    return int(reached.sum()), float(told)


def _renewed(network: Network, number: int) -> Network:
    """The same masks with new weights; biases begin at 0."""
    draws = generator(derive(0, "reach", number), "weights")
    state = dict(network.state)
    for name, mask in network.masks.items():
        state[name] = torch.randn(mask.shape, generator=draws) * mask
        state[name.removesuffix("weight") + "bias"] = torch.zeros(len(mask))
    return replace(network, state=state)


def _trained(
    network: Network,
    candidates: Sequence[Assignment],
    rate: float,
    epochs: int,
    configuration: Configuration,
    splits: Splits,
) -> list[tuple[float, Assignment]]:
    """The best validation accuracy of ReLU and of every candidate."""
    chosen = configuration.pruning.hyperparameters.model_copy(update={"learning_rate": rate, "schedule": "cosine"})
    assignments = [("relu",) * len(network.sites), *candidates]
    training = Training(splits, chosen, epochs, derive(0, "reach"), CPU, configuration.data, learn_scales=True)
    cohort = Cohort([network.assign(assignment) for assignment in assignments], training)
    while not cohort.over:
        cohort.run_epoch()
    accuracies = [standing.best_accuracy for standing in cohort.standings]
    return list(zip(accuracies, assignments, strict=True))


if __name__ == "__main__":
    main()
