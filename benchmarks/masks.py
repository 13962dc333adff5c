"""Trainings whose masks change, with all weights and as run.execution=auto takes them: from images to the final mask.

    python benchmarks/masks.py                            LeNet-5, 20 epochs of 40 batches of 64
    python benchmarks/masks.py vgg16 --epochs 4 --batches 8 --interval 8

Random images in the shape of MNIST or CIFAR-10. gradual and gsm begin dense, rigl at ERK masks of 99%, beside the same
training with these masks fixed. Seconds are CPU time of one core, with typical costs. The trainings of a line run one
after the other.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from sparse import SHAPES, known, masks, network_of

from safs_ray import machine
from safs_ray.config import Configuration, Execution, Hyperparameters, PruningSection, RunSection
from safs_ray.data import Examples, Splits
from safs_ray.network import Network
from safs_ray.pruning.changing import RULES
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.training import Context, Trainer, Training

SPARSITY = 0.99

SGD = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["lenet5"], type=known, metavar="MODEL")
    parser.add_argument("--schedules", nargs="+", default=["gradual", "gsm", "rigl"], choices=sorted(RULES))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batches", type=int, default=40, help="of an epoch")
    parser.add_argument("--interval", type=int, default=100, help="batches between two changes of gradual and rigl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine.keep_memory()
    print("| network | schedule | all weights s | auto s | ratio | fixed masks s | auto / fixed |")
    print("|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for schedule in arguments.schedules:
            print(_line(model, schedule, arguments), flush=True)


def _line(model: str, schedule: str, arguments: argparse.Namespace) -> str:
    section = PruningSection.model_validate(
        {"sparsity": SPARSITY, "schedule": schedule, "interval": arguments.interval, "hyperparameters": SGD}
        | {"allocation": "erk" if schedule == "rigl" else "global", "epochs": arguments.epochs}
    )
    network = network_of(model, "relu")
    sparse = network.masked(masks(network, "erk", SPARSITY))
    start = sparse if schedule == "rigl" else network
    splits = _splits(model, arguments.batches)
    rule: MakeRule = partial(RULES[schedule], section=section, network=network)
    dense, auto = (_seconds(start, splits, arguments.epochs, rule, each) for each in ("dense", "auto"))
    fixed = _seconds(sparse, splits, arguments.epochs, FixedMasks, "auto")
    return (
        f"| {model} | {schedule} | {dense:.1f} | {auto:.1f} | {dense / auto:.1f} | {fixed:.1f} | {auto / fixed:.2f} |"
    )


def _splits(model: str, count: int) -> Splits:
    """Random images: so many batches, and no others."""
    channels, size, _ = SHAPES[model]
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count * 64, channels, size, size), dtype=torch.uint8, generator=draws)
    train = Examples(images, torch.randint(0, 10, (len(images),), generator=draws))
    return Splits(train, train[:64], train[:0])


def _seconds(network: Network, splits: Splits, epochs: int, rule: MakeRule, execution: Execution) -> float:
    """CPU time of a training, after one epoch of another that brings what it needs."""
    context = Context(Configuration(run=RunSection(execution=execution)), splits)
    chosen = Hyperparameters.model_validate({**SGD, "batch_size": 64})
    Trainer([network], Training(context, chosen, 1, seed=0, mask_rule=rule)).run()
    trainer = Trainer([network], Training(context, chosen, epochs, seed=0, mask_rule=rule))
    start = time.process_time()
    trainer.run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
