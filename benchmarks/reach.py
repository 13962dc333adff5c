"""How far 442 weights of LeNet-5 can go on MNIST when every layer keeps the same share.

    python benchmarks/reach.py DENSE_FOLDER [data.folder=MNIST_FOLDER dense.epochs=200] [--seeds 0 1] [--epochs 40]
        [--rates 1e-3 5e-3 2e-2] [--weights left new]

takes the dense network of each seed, which DENSE_FOLDER keeps once it is trained, prunes it by magnitude to 1 % of
every layer, and prints

- the outputs that a path of weights leads to from the pixels, and the ceiling: any other output gives the same logit
  for every image, so that at most one class of those is ever told. A network that makes no other mistake has this
  validation accuracy;
- for every learning rate, and from the weights that are left or new ones from N(0, 1), the best validation accuracy of
  ReLU, and of 15 random assignments beside it the median and the best.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from pruners import SETTING, train_dense

from safs_ray import config, stages
from safs_ray.data import Examples
from safs_ray.network import Network
from safs_ray.pruning.flow import reach
from safs_ray.randomness import derive, generator
from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.training import Context, Trainer, Training

ASSIGNMENTS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", metavar="DENSE_FOLDER", type=Path)
    parser.add_argument("words", nargs="*", metavar="key.path=value", help="of the configuration")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 5e-3, 2e-2])
    parser.add_argument("--weights", nargs="+", default=["left", "new"], choices=["left", "new"])
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    print("| seed | dense | outputs reached | ceiling | weights | learning rate | ReLU | median | best | of |")
    print("|" + "---|" * 10)
    for seed in arguments.seeds:
        configuration = config.load(SETTING, [*arguments.words, f"run.seed={seed}"])
        folds = stages.folds(configuration, stages.load(configuration))
        dense = train_dense(configuration, folds, arguments.dense)
        context, draws = Context(configuration, folds.search()), random.Random(0)
        candidates = [random_assignment(configuration.search.operators, 4, draws) for _ in range(ASSIGNMENTS)]
        network = stages.prune(dense.network, context).network
        reached, ceiling = _ceiling(network, context.splits.validation)
        for weights, rate in itertools.product(arguments.weights, arguments.rates):
            start = network if weights == "left" else _renewed(network, seed)
            found = _trained(start, candidates, rate, arguments.epochs, context)
            print(
                f"| {seed} | {dense.validation_accuracy:.1%} | {reached} | {ceiling:.1%} | {weights} | {rate:g} | "
                f"{found[0][0]:.1%} | {median(accuracy for accuracy, _ in found[1:]):.1%} | {max(found)[0]:.1%} | "
                f"{' '.join(max(found)[1])} |",
                flush=True,
            )


def _ceiling(network: Network, validation: Examples) -> tuple[int, float]:
    """How many outputs are reached, and the validation accuracy of a network that tells all that it can."""
    reached = reach(network.build(), network.masks, network.specification.example(), network.sites).outputs
    assert reached is not None  # of LeNet-5 it is known
    shares = validation.labels.bincount(minlength=len(reached)) / len(validation)
    told = shares[reached].sum() + (shares[~reached].max() if not reached.all() else 0)
    return int(reached.sum()), float(told)


def _renewed(network: Network, seed: int) -> Network:
    """The same masks with new weights; biases begin at 0."""
    draws = generator(derive(0, "reach", seed), "weights")
    state = dict(network.state)
    for name, mask in network.masks.items():
        state[name] = torch.randn(mask.shape, generator=draws) * mask
        state[name.removesuffix("weight") + "bias"] = torch.zeros(len(mask))
    return replace(network, state=state)


def _trained(
    network: Network, candidates: Sequence[Assignment], rate: float, epochs: int, context: Context
) -> list[tuple[float, Assignment]]:
    """The best validation accuracy of ReLU and of every candidate."""
    default = context.configuration.pruning.hyperparameters
    chosen = default.model_copy(update={"learning_rate": rate, "schedule": "cosine"})
    assignments = [("relu",) * len(network.sites), *candidates]
    training = Training(context, chosen, epochs, derive(0, "reach"), learn_scales=True)
    trainer = Trainer([network.assign(assignment) for assignment in assignments], training).run()
    accuracies = [standing.best_accuracy for standing in trainer.standings]
    return list(zip(accuracies, assignments, strict=True))


if __name__ == "__main__":
    main()
