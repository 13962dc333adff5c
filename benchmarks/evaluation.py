"""One candidate's epoch of LeNet-5 on MNIST, 442 of 44,190 weights: a plain PyTorch loop, masked dense, and ours.

    python benchmarks/evaluation.py MNIST_FOLDER                          some five minutes of a core
    python benchmarks/evaluation.py MNIST_FOLDER --masks 2 --operators relu swish

An epoch is a pass over 50,000 images to train on, in batches of 256, with Adam, and one over 10,000 to validate on.
The plain loop has torchvision's data set, its transforms on every image, a DataLoader without workers and masks by
torch.nn.utils.prune. Masked dense has the images in memory, as has ours, which executes what is not zero: one candidate
at a time, and 16 side by side. The first two are timed on 40 of an epoch's 196 batches and as large a part of the
validation, and scaled.

Masks are those of dense networks of several seeds, trained shortly. Times are core-seconds of one thread, for each mask
the median of turns that the ways take; a line has the medians over the masks and, in brackets, the least and the most.
"Set up" is what a candidate takes before its first epoch.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from timing import Run, medians
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.optim import Adam
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from safs_ray import config, stages
from safs_ray.activations import ScaledActivation
from safs_ray.config import Configuration, Execution
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.allocation import ALLOCATIONS
from safs_ray.search.evaluator import COHORT
from safs_ray.training import Context, Trainer, Training

SETTING = Path(__file__).parent.parent / "tune_configs" / "lenet5_mnist.yaml"
BATCHES = 40
"""Of an epoch, that slow ways are timed on."""


class Way(NamedTuple):
    """A way to train a candidate: what is timed, and how many epochs of a candidate that is."""

    run: Run
    epochs: float


@dataclass(frozen=True)
class Task:
    """What every way is given: the images, and how a candidate is trained on them."""

    configuration: Configuration
    splits: Splits

    def part(self) -> tuple[int, int]:
        """The images that slow ways are timed on: how many to train on, how many to validate on."""
        trained = BATCHES * self.configuration.pruning.hyperparameters.batch_size
        return trained, round(len(self.splits.validation) * trained / len(self.splits.train))


@dataclass(frozen=True)
class Found:
    """Core-seconds of a way with one mask."""

    epoch: float
    set_up: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="MNIST_FOLDER", help="where torchvision's MNIST lies or is downloaded to")
    parser.add_argument("--operators", nargs="+", default=["relu"], help="of every site")
    parser.add_argument("--allocations", nargs="+", default=["layer", "global"], choices=list(ALLOCATIONS))
    parser.add_argument("--masks", type=int, default=8)
    parser.add_argument("--dense-epochs", type=int, default=3, help="of the networks that the masks are made of")
    parser.add_argument("--turns", type=int, default=3, help="of each way with each mask")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [f"data.folder={arguments.folder}", f"dense.epochs={arguments.dense_epochs}"]
    task, dense = _prepared(overrides, arguments.masks)
    for line in _head():
        print(line)
    for allocation in arguments.allocations:
        pruned = [_masked(network, allocation, task.configuration.pruning.sparsity) for network in dense]
        for operator in arguments.operators:
            candidates = [network.assign([operator] * len(network.sites)) for network in pruned]
            found = [_timed(candidate, task, arguments.turns) for candidate in candidates]
            print(f"| {allocation} | {operator} | {_columns(found)} |", flush=True)


def _prepared(overrides: Sequence[str], seeds: int) -> tuple[Task, list[Network]]:
    """The images and the setting, and a dense network of each seed."""
    configuration = config.load(SETTING, overrides)
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    own = [config.load(SETTING, [*overrides, f"run.seed={seed}"]) for seed in range(seeds)]
    specification = stages.specify(configuration, dataset, splits)
    dense = [stages.train_dense(specification, Context(each, splits)).network for each in own]
    return Task(configuration, splits), dense


def _masked(network: Network, allocation: str, sparsity: float) -> Network:
    """The dense network pruned by magnitude."""
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    return network.masked(ALLOCATIONS[allocation](scores, sparsity))


def plain_loop(network: Network, task: Task) -> Way:
    """A training as scripts have it, the original's among them."""
    specification, chosen = network.specification, task.configuration.pruning.hyperparameters
    transform = Compose([ToTensor(), Normalize(specification.mean, specification.deviation)])
    images = MNIST(task.configuration.data.folder, transform=transform)
    trained, validated = task.part()
    parts = Subset(images, range(trained)), Subset(images, range(trained, trained + validated))
    training = DataLoader(parts[0], chosen.batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    validation = DataLoader(parts[1], chosen.batch_size)
    module = network.build()
    for child in module.modules():
        if isinstance(child, ScaledActivation):
            child.freeze_scales()
    for name, mask in network.masks.items():
        prune.custom_from_mask(  # type: ignore[no-untyped-call]
            module.get_submodule(name.removesuffix(".weight")), "weight", mask
        )
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = Adam(learned, chosen.learning_rate, weight_decay=chosen.weight_decay)

    def run() -> float:
        module.train()
        for batch, labels in training:
            optimizer.zero_grad()
            loss = cross_entropy(module(batch), labels)
            torch.autograd.backward(loss)
            optimizer.step()
        module.eval()
        with torch.no_grad():
            right = sum(int((module(batch).argmax(1) == labels).sum()) for batch, labels in validation)
        return right / validated

    return Way(run, trained / len(task.splits.train))


def masked_dense(network: Network, task: Task) -> Way:
    """Our training with all weights, from memory."""
    trained, validated = task.part()
    splits = task.splits
    part = Splits(splits.train[:trained], splits.validation[:validated], splits.test[:0])
    return Way(_trained([network], task.configuration, part, "dense"), trained / len(splits.train))


def sparse(network: Network, task: Task) -> Way:
    """Our training as it is by default."""
    return Way(_trained([network], task.configuration, task.splits, "auto"), 1)


def side_by_side(network: Network, task: Task) -> Way:
    """Candidates of one mask, trained together."""
    return Way(_trained([network] * COHORT, task.configuration, task.splits, "auto"), COHORT)


def _trained(networks: Sequence[Network], configuration: Configuration, splits: Splits, execution: Execution) -> Run:
    executed = configuration.run.model_copy(update={"execution": execution})
    context = Context(configuration.model_copy(update={"run": executed}), splits)
    trainer = Trainer(networks, Training(context, configuration.pruning.hyperparameters, 10**6, seed=0))

    def epoch() -> None:
        trainer.run_epoch()
        if trainer.diverged:
            raise SystemExit(f"{networks[0].assignment[0]} diverged: there is nothing to time")

    return epoch


BASELINES: Mapping[str, Callable[[Network, Task], Way]] = {"plain loop": plain_loop, "masked dense": masked_dense}
OURS: Mapping[str, Callable[[Network, Task], Way]] = {
    "ours": sparse,
    f"ours, {COHORT} side by side": side_by_side,
}


def _timed(network: Network, task: Task, turns: int) -> dict[str, Found]:
    """Every way, with one mask."""
    ways, set_up = [], []
    for make in (*BASELINES.values(), *OURS.values()):
        start = time.process_time()
        ways.append(make(network, task))
        set_up.append(time.process_time() - start)
    seconds = [
        took / way.epochs for took, way in zip(medians([way.run for way in ways], turns=turns), ways, strict=True)
    ]
    return {name: Found(*each) for name, *each in zip((*BASELINES, *OURS), seconds, set_up, strict=True)}


def _head() -> list[str]:
    columns = ["allocation", "operator", *(f"{name} s" for name in BASELINES)]
    for name in OURS:
        columns += [f"{name} s", f"{name}: set up s", *(f"{baseline} / {name}" for baseline in BASELINES)]
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]


def _columns(found: Sequence[Mapping[str, Found]]) -> str:
    """The numbers of a line, for what was found with each mask."""
    columns = [f"{median(each[name].epoch for each in found):.2f}" for name in BASELINES]
    for name in OURS:
        columns += [_spread([each[name].epoch for each in found], 3)]
        columns += [f"{median(each[name].set_up for each in found):.3f}"]
        columns += [_spread([each[other].epoch / each[name].epoch for each in found], 1) for other in BASELINES]
    return " | ".join(columns)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
