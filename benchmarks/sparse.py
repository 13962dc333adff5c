"""Training steps of masked dense execution and of what auto chooses, side by side in one run.

    python benchmarks/sparse.py                  LeNet-5
    python benchmarks/sparse.py vgg16 resnet18   networks for CIFAR-10

Random images in the shape of MNIST or CIFAR-10, random weights and masks; the step is forward, backward and Adam. Times
are medians of repeats that take turns, in milliseconds of one core. Dense networks with three channels compute with
channels_last memory, which is faster for them. "dense layers" are those that auto computes with all weights among
sparse ones, and "expected" the ratio that it goes by, both by this machine's costs, which it prints first.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from timing import Run, medians
from torch.optim import Adam

from safs_ray import machine
from safs_ray.config import Costs
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import ALLOCATIONS
from safs_ray.pruning.rules import FixedMasks
from safs_ray.sparse import plan
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.costs import of_this_machine
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable

SHAPES = {"lenet5": (1, 28, 256), "mlp": (1, 28, 256), "vgg16": (3, 32, 128), "resnet18": (3, 32, 128)}
"""Channels, side in pixels, images in a batch."""

SPARSITIES = {"lenet5": (0.9, 0.95, 0.98, 0.99), "mlp": (0.9, 0.95, 0.98, 0.99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["lenet5"], type=known, metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    parser.add_argument("--allocations", nargs="+", default=list(ALLOCATIONS), choices=list(ALLOCATIONS))
    parser.add_argument("--sparsities", nargs="+", type=float)
    parser.add_argument("--operator", default="relu", help="the operator of every site")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine.keep_memory()
    costs = of_this_machine()
    print(", ".join(f"{name} {cost:.1f}" for name, cost in costs._asdict().items()), end="\n\n")
    print("| network | allocation | sparsity | nonzeros | dense ms | auto ms | ratio | expected | dense layers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for allocation in arguments.allocations:
            for sparsity in arguments.sparsities or SPARSITIES.get(model, (0.9, 0.95, 0.99)):
                print(_line(model, allocation, sparsity, arguments.operator, arguments.seconds, costs), flush=True)


def _line(model: str, allocation: str, sparsity: float, operator: str, seconds: float, costs: Costs) -> str:
    channels, size, count = SHAPES[model]
    network = network_of(model, operator)
    network = network.masked(masks(network, allocation, sparsity))
    module = network.build()
    if channels == 3:
        module = module.to(memory_format=torch.channels_last)
    cpu = torch.device("cpu")
    made = plan.make(network, network.build(), costs)
    cohorts = DenseCohort(network, module, cpu), executable(network, "auto", cpu, costs).cohort
    times = [1000 * each for each in medians([_step(cohort, channels, size, count) for cohort in cohorts], seconds)]
    return (
        f"| {model} | {allocation} | {sparsity:g} | {network.nonzero_weights:,} | {times[0]:.2f} | {times[1]:.2f} | "
        f"{times[0] / times[1]:.1f} | {made.gain(costs):.1f} | {len(made.dense)} |"
    )


def known(model: str) -> str:
    """The name of a network, as an argument: argparse would look for a default of several among its choices.

    Raises:
        ArgumentTypeError: there is none of that name.
    """
    if model not in SHAPES:
        raise argparse.ArgumentTypeError(f"{model!r}; allowed: {', '.join(SHAPES)}")
    return model


def network_of(model: str, operator: str) -> Network:
    """A dense network with initial weights and one operator at every site."""
    channels, size, _ = SHAPES[model]
    specification = Specification(model, (channels, size, size), 10, (0.5,) * channels, (0.25,) * channels)
    network = Network.initial(specification, seed=0)
    return network.assign([operator] * len(network.sites))


def masks(network: Network, allocation: str, sparsity: float) -> dict[str, torch.Tensor]:
    """Masks by scores that are drawn from one normal distribution.

    By the magnitudes of initial weights a global allocation would empty whole layers, which training evens out.
    """
    draws = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(weight.shape, generator=draws).abs() for name, weight in network.prunable().items()}
    return ALLOCATIONS[allocation](scores, sparsity)


def _step(cohort: Cohort, channels: int, size: int, count: int) -> Run:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 10, (count,), generator=draws)
    cohort.train()
    cohort.freeze_scales()
    optimizer = Adam(cohort.parameters(), fused=True)
    rule = FixedMasks(cohort.prunable, {name: weight != 0 for name, weight in cohort.prunable.items()}, steps=1)

    def step() -> None:
        cohort.learn(images, Targets(labels), CROSS_ENTROPY)
        rule.before_step()
        optimizer.step()
        rule.after_step(optimizer)

    return step


if __name__ == "__main__":
    main()
