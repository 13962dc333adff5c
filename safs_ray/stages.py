"""One function per stage: a network and splits in, a network and its accuracy out. No Ray.

The data flow of a run::

    train_dense ─ prune ─┬─ search ─┬─ finish   the row "SAFS", on each fold
                         │          └─ finish   the row "pruned", with default activations, on each fold
                         └─ one network for all folds

``finish`` and ``test`` alone read the test images, once.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import torch

from safs_ray import pruning, sources
from safs_ray.config import Configuration, Hyperparameters, refusal
from safs_ray.data import Dataset, Folds, Splits
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.operators import find
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.storage import Folder
from safs_ray.training import Report, Trainer, Training, accuracy, silent


@dataclass(frozen=True)
class Result:
    """What a stage made.

    Attributes:
        network: as it was after its best epoch on the validation images.
        validation_accuracy: of that network, in [0, 1].
        core_seconds: CPU time of the stage, over all its threads.
        test_accuracy: in [0, 1]; None outside the final evaluation.
    """

    network: Network
    validation_accuracy: float
    core_seconds: float
    test_accuracy: float | None = None

    def save(self, folder: Folder) -> None:
        """Write the network and then metrics.json, which says that the stage is complete."""
        self.network.save(folder)
        folder.write_json(
            "metrics.json",
            {
                "validation_accuracy": self.validation_accuracy,
                "test_accuracy": self.test_accuracy,
                "core_seconds": self.core_seconds,
            },
        )

    @classmethod
    def load(cls, folder: Folder) -> Result | None:
        """The result in a folder; None when the stage has not completed there."""
        if not folder.exists("metrics.json"):
            return None
        return cls(Network.load(folder), **folder.read_json("metrics.json"))


@dataclass(frozen=True)
class Found:
    """What a search found: the winning network after fine-tuning, and every evaluation made."""

    network: Network
    hyperparameters: Hyperparameters
    validation_accuracy: float
    evaluations: tuple[Evaluation, ...]

    @property
    def assignment(self) -> Assignment:
        return self.network.assignment


def choose_device(configuration: Configuration) -> torch.device:
    """The device that the configuration names; "auto" is a GPU where this process sees one."""
    name = configuration.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def load(configuration: Configuration) -> Dataset:
    """The run's images, the pool in an order drawn from the run's seed.

    Raises:
        ConfigurationError: the images cannot be read or do not fit together.
    """
    return sources.load(configuration.data).shuffled(configuration.run.seed)


def folds(configuration: Configuration, dataset: Dataset) -> Folds:
    """The run's folds of the images that :func:`load` gave."""
    return Folds(dataset, configuration.data.validation, configuration.final.folds)


def specify(configuration: Configuration, dataset: Dataset, splits: Splits) -> Specification:
    """The network's specification for these images, normalised by the training images of the split."""
    mean, deviation = splits.train.statistics()
    return Specification(configuration.model.name, dataset.channels, dataset.size, dataset.classes, mean, deviation)


def check(configuration: Configuration, dataset: Dataset, splits: Splits) -> Network:
    """Build the network once, so that pieces that do not fit are refused before any work.

    Raises:
        ConfigurationError: unknown operators or network, or images that the network cannot take.
    """
    find(configuration.search.operators, "search.operators")
    if len(splits.train) < 2:
        allowed = f"{configuration.final.folds} folds of it leave {len(splits.train)} images to train on; at least 2"
        raise refusal("data.validation", configuration.data.validation, allowed)
    _check_resources(configuration)
    return Network.initial(specify(configuration, dataset, splits), configuration.run.seed)


def _check_resources(configuration: Configuration) -> None:
    resources, cores = configuration.tune.resources, os.cpu_count() or 1
    if configuration.run.device == "cuda" and not resources.gpu:
        raise refusal("tune.resources.gpu", resources.gpu, "run.device=cuda needs more than 0")
    if configuration.run.address != "local":
        return  # the cluster may grow
    if resources.cpu > cores:
        raise refusal("tune.resources.cpu", resources.cpu, f"this machine has {cores} cores")
    if resources.gpu > torch.cuda.device_count():
        raise refusal("tune.resources.gpu", resources.gpu, f"this machine has {torch.cuda.device_count()} GPUs")


def plan(configuration: Configuration) -> dict[str, int]:
    """Epochs of each part of a run in which no trial is stopped and no evaluation repeated."""
    trials, folds = configuration.tune.trials, configuration.final.folds
    return {
        "dense training": configuration.dense.epochs,
        "pruning": configuration.pruning.epochs,
        "search": trials * configuration.search.steps * configuration.search.epochs,
        "fine-tuning": trials * configuration.finetune.epochs,
        "final evaluation": 2 * folds * configuration.final.epochs,
    }


def seconds_per_epoch(configuration: Configuration, network: Network, splits: Splits) -> float:
    """Wall time of one epoch of this network on this machine's CPU, measured on three batches."""
    few = splits.train[: 3 * configuration.dense.hyperparameters.batch_size]
    training = Training(
        Splits(few, few[:1], few[:0]),
        configuration.dense.hyperparameters,
        epochs=2,
        seed=configuration.run.seed,
        device=torch.device("cpu"),
        data=configuration.data,
    )
    trainer = Trainer(network, training)
    trainer.run_epoch()  # the first is slower: torch prepares
    start = time.perf_counter()
    trainer.run_epoch()
    validation = 1 / 3  # an image without gradients costs about a third of one with them
    images = len(splits.train) + validation * len(splits.validation)
    return (time.perf_counter() - start) / (len(few) + validation) * images


def train_dense(
    configuration: Configuration, dataset: Dataset, splits: Splits, device: torch.device, report: Report = silent
) -> Result:
    """Train a network from initial weights, with its own activations.

    Raises:
        ConfigurationError: the training diverged.
    """
    seed = derive(configuration.run.seed, "dense")
    section = configuration.dense
    network = Network.initial(specify(configuration, dataset, splits), seed)
    training = Training(splits, section.hyperparameters, section.epochs, seed, device, configuration.data)
    return _trained(network, training, report, blamed="dense.hyperparameters.learning_rate")


def prune(
    network: Network, configuration: Configuration, splits: Splits, device: torch.device, report: Report = silent
) -> Result:
    """Set the lowest weights to zero and retrain the others; with no epochs, only the first.

    Raises:
        ConfigurationError: the retraining diverged.
    """
    seed = derive(configuration.run.seed, "retraining")
    section = configuration.pruning
    masks = pruning.prune(network.prunable(), section.sparsity, section.score, section.allocation)
    training = Training(splits, section.hyperparameters, section.epochs, seed, device, configuration.data)
    return _trained(network.masked(masks), training, report, blamed="pruning.hyperparameters.learning_rate")


def search(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    hyperparameters: Hyperparameters,
    device: torch.device,
) -> Found:
    """One chain to its end, in this process; :mod:`safs_ray.tune` runs many, each with its hyperparameters."""
    memory = Ledger()
    chain = Chain(network, splits, hyperparameters, configuration, device, memory)
    while not chain.finished:
        evaluation = chain.step()
    return Found(chain.network(), hyperparameters, evaluation.best_accuracy, tuple(memory.evaluations))


def finish(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    fold: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    report: Report = silent,
) -> Result:
    """The last training of a row of the table, the same length for every row; then the test images, once.

    Args:
        network: the pruned network, with the row's assignment.

    Raises:
        ConfigurationError: the training diverged before its first epoch was over.
    """
    training = Training(
        splits,
        hyperparameters,
        configuration.final.epochs,
        derive(configuration.run.seed, "final", fold),
        device,
        configuration.data,
        learn_scales,
    )
    return test(_trained(network, training, report, blamed="pruning.hyperparameters.learning_rate"), splits, device)


def test(result: Result, splits: Splits, device: torch.device) -> Result:
    """The result with its accuracy on the test images."""
    return replace(result, test_accuracy=accuracy(result.network, splits.test, device))


def _trained(network: Network, training: Training, report: Report, blamed: str) -> Result:
    """Run a training to its end; ``blamed`` is the key to name when it diverges before it has any result."""
    start = time.process_time()
    trainer = Trainer(network, training).run(report)
    if trainer.diverged and trainer.epoch == 1:
        rate = training.hyperparameters.learning_rate
        raise refusal(blamed, rate, "the training diverges in its first epoch; take a smaller one")
    best = trainer.best()
    score = trainer.best_accuracy if trainer.epoch else accuracy(best, training.splits.validation, training.device)
    return Result(best, score, time.process_time() - start)
