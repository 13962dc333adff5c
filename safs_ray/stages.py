"""One function per stage: a network and splits in, a network and its accuracy out. No Ray.

The data flow of a run::

    train_dense ─ prune ─┬─ search ─ finish   the row "SAFS", on each fold
                         └─ finish            the row "pruned", with default activations, on each fold

Of several searches, ``choose`` takes the one whose recipe does best when it is trained again.

With ``search.when`` before, ``search`` goes on from the dense network, and ``prune`` follows with the assignment
found; with during, ``prune`` is left out, and every training of ``search`` and ``finish`` prunes anew.

``given`` takes the place of ``train_dense``, or of both, where a network is there to start from. ``finish`` and
``test`` alone read the test images, once.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any

import torch

from safs_ray import machine, models, schedules, sources
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters, RunSection, refusal
from safs_ray.data import Dataset, Folds, Splits, batch_count
from safs_ray.models import Specification
from safs_ray.models.weights import Weights
from safs_ray.network import Network
from safs_ray.operators import check_names, find
from safs_ray.pruning.rules import rule_of
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain, Course, joint, stage_1, stage_2
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.storage import Folder
from safs_ray.training import Report, Trainer, Training, accuracy, silent, train

METRICS = "metrics.json"
NUMBERS = {"validation_accuracy": float, "test_accuracy": float | None, "core_seconds": float}
"""What it holds, beside the fingerprint of the network."""


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
        """Write the network and then metrics.json, which says that the stage is complete, and of which network."""
        self.network.save(folder)
        folder.write_json(
            METRICS,
            {
                "validation_accuracy": self.validation_accuracy,
                "test_accuracy": self.test_accuracy,
                "core_seconds": self.core_seconds,
                "fingerprint": self.network.fingerprint,
            },
        )

    @classmethod
    def load(cls, folder: Folder) -> Result | None:
        """The result in a folder; None when the stage has not completed there.

        Raises:
            DamagedError: a file of a stage that has completed is missing or not what was written.
        """
        if not folder.exists(METRICS):
            return None
        metrics = folder.read_json(METRICS)
        try:
            network = Network.load(folder)
        except FileNotFoundError as error:
            raise folder.damaged(METRICS, f"of its network a file is missing ({error})") from None
        if not isinstance(metrics, dict) or metrics.pop("fingerprint", None) != network.fingerprint:
            raise folder.damaged(METRICS, "it is of another network than lies there")
        if metrics.keys() != NUMBERS.keys() or not all(isinstance(metrics[key], NUMBERS[key]) for key in NUMBERS):
            raise folder.damaged(METRICS, f"it must hold the numbers {', '.join(NUMBERS)}")
        return cls(network, **metrics)


@dataclass(frozen=True)
class Recipe:
    """How a row of the table trains the pruned network."""

    assignment: Assignment
    hyperparameters: Hyperparameters
    learn_scales: bool

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "hyperparameters": self.hyperparameters.model_dump()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        chosen = Hyperparameters(**values["hyperparameters"])
        return cls(tuple(values["assignment"]), chosen, values["learn_scales"])


@dataclass(frozen=True)
class Found:
    """What a search found: the best network after fine-tuning, how it came about, and every evaluation made."""

    network: Network
    recipe: Recipe
    validation_accuracy: float
    evaluations: tuple[Evaluation, ...]

    @property
    def assignment(self) -> Assignment:
        return self.recipe.assignment


def set_up(configuration: Configuration) -> torch.device:
    """Prepare this process for a stage: threads, and whether a GPU gives the same bits every time.

    Returns:
        The device that the configuration names; "auto" is a GPU where this process sees one.
    """
    name = configuration.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(configuration.tune.resources.cpu)
    if name == "cuda":
        same = configuration.run.deterministic
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS's sums come in any order
        torch.use_deterministic_algorithms(same, warn_only=True)
        torch.backends.cudnn.benchmark = not same
    return torch.device(name)


def load(configuration: Configuration) -> Dataset:
    """The run's images, the pool in an order drawn from the run's seed.

    Raises:
        ConfigurationError: the images cannot be read or do not fit together; or, before any is read, there is no
            network or operator of a name or this machine has not the resources.
    """
    _check_without_images(configuration)
    return sources.load(configuration.data).shuffled(configuration.run.seed)


def folds(configuration: Configuration, dataset: Dataset) -> Folds:
    """The run's folds of the images that :func:`load` gave."""
    return Folds(dataset, configuration.data.validation, configuration.final.folds)


def specify(configuration: Configuration, dataset: Dataset, splits: Splits) -> Specification:
    """The network's specification for these images, normalised by the training images of the split unless told.

    Raises:
        ConfigurationError: no such network, or a mean of other channels than the images have.
    """
    mean, deviation = configuration.data.mean, configuration.data.deviation
    if not mean or not deviation:
        mean, deviation = splits.train.statistics()
    if len(mean) != dataset.channels:
        raise refusal("data.mean", mean, f"the images have {dataset.channels} channels")
    name, exclude = configuration.model.name, configuration.model.exclude
    if exclude is None:
        exclude = models.find(name).exclude
    return Specification(name, dataset.channels, dataset.size, dataset.classes, mean, deviation, exclude)


def searchable(network: Network, configuration: Configuration) -> Network:
    """The network with the sites that the search assigns operators to; it computes the same.

    Raises:
        ConfigurationError: a site has fewer channels than ``search.groups``.
    """
    section = configuration.search
    if section.granularity == "group" and network.groups == 1:
        return network.grouped(section.groups)
    return network


def check(configuration: Configuration, dataset: Dataset, splits: Splits) -> Network:
    """Build the network once, so that pieces that do not fit are refused before any work.

    Raises:
        ConfigurationError: unknown operators or network, images that the network cannot take, batches that do not
            fit into memory, or sites that cannot be grouped.
    """
    _check_without_images(configuration)
    find(configuration.search.operators, "search.operators")
    if len(splits.train) < 2:
        allowed = f"{configuration.final.folds} folds of it leave {len(splits.train)} images to train on; at least 2"
        raise refusal("data.validation", configuration.data.validation, allowed)
    specification = specify(configuration, dataset, splits)
    models.check(specification)
    _check_batches(configuration, specification, dataset, splits)
    network = Network.initial(specification, configuration.run.seed)
    if not network.prunable_count:
        raise refusal("model.name", specification.model, "has no convolution or linear layer that could be pruned")
    searchable(network, configuration)
    return network


def _check_without_images(configuration: Configuration) -> None:
    models.find(configuration.model.name)
    check_names(configuration.search.operators, "search.operators")
    _check_resources(configuration)


COPIES = 4
"""A training holds at least so many of the weights: where it started, as they are, their gradients, and the best."""


def _check_batches(
    configuration: Configuration, specification: Specification, dataset: Dataset, splits: Splits
) -> None:
    """Refuse batches that memory cannot hold, or of a single image where the network needs more."""
    needs = models.footprint_of(specification)
    sizes = len(splits.train), len(dataset.pool) - len(splits.validation)  # before the final evaluation, and in it
    for key, batch_size in (
        ("dense.hyperparameters.batch_size", configuration.dense.hyperparameters.batch_size),
        ("pruning.hyperparameters.batch_size", configuration.pruning.hyperparameters.batch_size),
    ):
        if not needs.single and any(size // batch_count(size, batch_size) == 1 for size in sizes):
            leaves = f"{' and '.join(f'{size:,}' for size in sizes)} training images leave a batch of a single one"
            raise refusal(key, batch_size, f"{leaves}, on which this network fails, as batch normalisation does")
        largest = min(batch_size, sizes[0])
        takes, room = COPIES * needs.weights + largest * needs.image, machine.free_memory()
        if takes > room and configuration.run.address == "local" and not _on_gpu(configuration):
            images = f"{largest:,} images of {'x'.join(map(str, splits.train.images.shape[1:]))}"
            there = f"and {machine.readable(room)} of memory are free"
            raise refusal(key, batch_size, f"a step of training with {images} takes {machine.readable(takes)}, {there}")


def _on_gpu(configuration: Configuration) -> bool:
    """Whether stages compute on a GPU of this machine."""
    gpus = configuration.tune.resources.gpu
    return configuration.run.device != "cpu" and gpus != 0 and torch.cuda.is_available()


def _check_resources(configuration: Configuration) -> None:
    resources, cores = configuration.tune.resources, machine.cores()
    if configuration.run.device == "cuda" and resources.gpu == 0:
        raise refusal("tune.resources.gpu", resources.gpu, "run.device=cuda needs more than 0")
    if configuration.run.address != "local":
        return  # the cluster may grow
    if resources.cpu > cores:
        raise refusal("tune.resources.cpu", resources.cpu, f"this process may use {cores} cores")
    if configuration.run.device == "cuda" and not torch.cuda.device_count():
        raise refusal("run.device", "cuda", "torch finds no GPU on this machine; allowed: auto, cpu")
    if (resources.gpu or 0) > torch.cuda.device_count():
        raise refusal("tune.resources.gpu", resources.gpu, f"this machine has {torch.cuda.device_count()} GPUs")


def sweeps(configuration: Configuration) -> list[tuple[Course, int]]:
    """What the trials of each sweep of a run do, and how many trials it has."""
    trials = configuration.tune.trials
    if configuration.search.protocol == "joint":
        found = [(joint(configuration), trials)]
    else:
        found = [(stage_1(configuration), configuration.search.chains), (stage_2(configuration, "SAFS"), trials)]
    if "stage 2" in configuration.final.ablations:
        found.append((stage_2(configuration, "stage 2"), trials))
    return found


def plan(configuration: Configuration) -> dict[str, int]:
    """Epochs of each part of a run in which no trial is stopped, and no evaluation stopped or repeated."""
    section, final, courses = configuration.search, configuration.final, sweeps(configuration)
    return {
        "dense training": 0 if configuration.model.weights else configuration.dense.epochs,
        "pruning": pruning_epochs(configuration) * (2 if section.when == "before" else 1),
        "search": sum(count * course.evaluations * section.epochs for course, count in courses),
        "fine-tuning": sum(
            count * course.stretches * configuration.finetune.epochs_per_step for course, count in courses
        ),
        "finalists": sum(finalist_epochs(configuration, min(count, final.finalists)) for _, count in courses),
        "final evaluation": (2 + len(final.ablations)) * final.folds * final.epochs,
    }


def finalist_epochs(configuration: Configuration, finalists: int) -> int:
    """Epochs that so many finalists of a sweep are trained in all; one alone has won."""
    return finalists * configuration.final.seeds * configuration.final.epochs if finalists > 1 else 0


def pruning_epochs(configuration: Configuration) -> int:
    """Epochs that :func:`prune` trains."""
    if configuration.search.when == "during" or configuration.model.pruned:
        return 0
    return schedules.epochs(configuration.pruning) + (configuration.pruning.rewind or 0)


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
        run=configuration.run,
    )
    trainer = Trainer(network, training)
    trainer.run_epoch()  # the first is slower: torch prepares
    start = time.perf_counter()
    trainer.run_epoch()
    validation = 1 / 3  # an image without gradients costs about a third of one with them
    images = len(splits.train) + validation * len(splits.validation)
    return (time.perf_counter() - start) / (len(few) + validation) * images


def train_dense(
    configuration: Configuration,
    dataset: Dataset,
    splits: Splits,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Train a network from initial weights, with its own activations.

    Without epochs it stays as it is, for the pruners that were published for initial weights: SNIP, GraSP, SynFlow.

    Raises:
        ConfigurationError: the training diverged.
    """
    network = Network.initial(specify(configuration, dataset, splits), derive(configuration.run.seed, "dense"))
    if not configuration.dense.epochs:
        return _untrained(network, configuration, splits, device)
    training = replace(_dense_training(configuration, splits, device), checkpoints=checkpoints)
    return _trained(network, training, report, blamed="dense.hyperparameters.learning_rate")


def _dense_training(configuration: Configuration, splits: Splits, device: torch.device) -> Training:
    section, seed = configuration.dense, derive(configuration.run.seed, "dense")
    return Training(
        splits, section.hyperparameters, section.epochs, seed, device, configuration.data, configuration.run
    )


def given(configuration: Configuration, specification: Specification, splits: Splits) -> Result | None:
    """What ``model.weights`` holds, in place of what training, or training and pruning, would make; None without it.

    Raises:
        ConfigurationError: the file cannot be read or its weights are not the network's.
    """
    if configuration.model.weights is None:
        return None
    weights = Weights.read(configuration.model.weights)
    module = models.build(specification, seed=0)
    weights.load_into(module)
    network = Network.of(specification, module)
    if configuration.model.pruned:
        network = network.masked(weights.masks_of(network.prunable()))
    elif weights.masks:
        raise refusal("model.weights", weights.file, "is a pruned network; model.pruned=true keeps it so")
    return _untrained(network, configuration, splits, torch.device("cpu"))


def prune(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Make a dense network sparse by ``pruning.schedule``; one shot without epochs only sets weights to zero.

    With ``search.when`` during, the network stays dense: the trainings that follow make it sparse. Warns when
    nothing is left of a layer.

    Raises:
        ConfigurationError: the retraining diverged.
    """
    if configuration.search.when == "during":
        return _untrained(network, configuration, splits, device)
    start = time.process_time()
    section = configuration.pruning
    seed = derive(configuration.run.seed, "retraining")
    training = Training(
        splits,
        section.hyperparameters,
        section.epochs,
        seed,
        device,
        configuration.data,
        configuration.run,
        checkpoints=checkpoints,
    )
    rewound = None
    if section.rewind is not None:
        rewound = _early(network, configuration, splits, device, report)
        report = schedules.shifted(report, section.rewind)
    pruned, score = schedules.prune(schedules.Task(network, section, training, rewound, report))
    if warning := pruned.survey().warning:
        warnings.warn(warning, stacklevel=2)
    return Result(pruned, score, time.process_time() - start)


def _early(
    network: Network, configuration: Configuration, splits: Splits, device: torch.device, report: Report
) -> Network:
    """What the network was after the first epochs of its dense training, which are trained again bit for bit."""
    initial = Network.initial(network.specification, derive(configuration.run.seed, "dense"))
    if network.groups > 1:
        initial = initial.grouped(network.groups)
    trainer = Trainer(initial.assign(network.assignment), _dense_training(configuration, splits, device))
    while trainer.epoch < (configuration.pruning.rewind or 0):
        trainer.run_epoch()
        report(trainer.epoch, trainer.accuracy)
    return trainer.current()


def search(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    hyperparameters: Hyperparameters,
    device: torch.device,
    course: Course | None = None,
) -> Found:
    """One chain to its end, in this process; :mod:`safs_ray.tune` runs many, each with its hyperparameters.

    Of several, :func:`choose` takes one.

    Args:
        network: the sparse network, or the dense one that ``search.when`` has the trainings prune; its activations
            are where the search starts.
        splits: images uint8 (N, C, H, W) and labels; ``test`` is not read.
        hyperparameters: of every candidate's training and of the fine-tuning.
        course: the steps of the chain; without one, those of protocol joint.
    """
    ledger = Ledger()
    steps = course or joint(configuration)
    start = searchable(network, configuration)
    chain = Chain(start, splits, hyperparameters, configuration, device, ledger, steps, trial=steps.trial(0))
    while not chain.finished:
        evaluation = chain.step()
    recipe = Recipe(chain.best, hyperparameters, learn_scales=steps.own_hyperparameters)
    return Found(chain.network(), recipe, evaluation.best_accuracy, tuple(ledger.evaluations))


def choose(
    found: Sequence[Found], network: Network, configuration: Configuration, splits: Splits, device: torch.device
) -> Found:
    """The search whose recipe does best: the finalists of all are trained again, as the trials of a sweep are.

    Args:
        found: of searches that started from the network; at least one.
        network: as :func:`search` was given it.
        splits: of the search; ``test`` is not read.
    """
    start = searchable(network, configuration)
    recipes = {place: one.recipe for place, one in enumerate(found)}
    accuracies = {place: one.validation_accuracy for place, one in enumerate(found)}
    finalists = finalists_of(configuration, recipes, accuracies)
    if len(finalists) == 1:
        return found[finalists[0]]

    def trained(recipe: Recipe, number: int) -> float:
        network = start.assign(recipe.assignment)
        chosen, learn_scales = recipe.hyperparameters, recipe.learn_scales
        return train_finalist(network, configuration, splits, number, chosen, learn_scales, device).validation_accuracy

    seeds = range(configuration.final.seeds)
    best, _ = winner_of({place: [trained(recipes[place], number) for number in seeds] for place in finalists})
    return found[best]


def finalists_of(
    configuration: Configuration, recipes: Mapping[int, Recipe], accuracies: Mapping[int, float]
) -> list[int]:
    """The trials whose recipes are trained again, because one training says little of a very sparse network.

    Args:
        recipes: what the trials of a sweep that reached their end have found, by number.
        accuracies: the validation accuracies that they reached, in [0, 1].

    Returns:
        The numbers of at most ``final.finalists`` trials, the best first; of equal recipes only the first.
    """
    ranked = sorted(recipes, key=lambda number: accuracies[number], reverse=True)
    first = {recipes[number]: number for number in reversed(ranked)}
    return [number for number in ranked if first[recipes[number]] == number][: configuration.final.finalists]


def winner_of(accuracies: Mapping[int, Sequence[float]]) -> tuple[int, float]:
    """The finalist of the highest mean validation accuracy, the first of equal ones, and that mean.

    Args:
        accuracies: of the trainings of each finalist, by the number of its trial, the best trial first.
    """
    means = {number: mean(values) for number, values in accuracies.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def train_finalist(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    number: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """A training like the last one, but on the images of the search: how well a finalist does, and how surely.

    Its validation accuracy is 0 when it diverges.

    Args:
        network: what the search started from, with the finalist's assignment.
        splits: of the search; ``test`` is not read.
        number: of this training, from 0, from which its seed follows: all finalists see the same batches.
    """
    start = time.process_time()
    seed = derive(configuration.run.seed, "finalist", number)
    training = _last_training(configuration, splits, seed, hyperparameters, learn_scales, device, checkpoints)
    trainer = Trainer(network, training).run(report)
    accuracy = 0.0 if trainer.diverged else trainer.best_accuracy
    return Result(trainer.best(), accuracy, time.process_time() - start)


def finish(
    network: Network,
    configuration: Configuration,
    splits: Splits,
    fold: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    report: Report = silent,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """The last training of a row of the table, the same length for every row; then the test images, once.

    A training that diverges before its first epoch is over leaves the network as it was: that is the row's result.

    Args:
        network: the pruned network, or the dense one that ``search.when`` during prunes here, with the row's
            assignment.
        fold: number of the fold that the splits are of, from which the seed follows.
        learn_scales: whether alpha and beta are learned, or stay at 1.
    """
    seed = derive(configuration.run.seed, "final", fold)
    training = _last_training(configuration, splits, seed, hyperparameters, learn_scales, device, checkpoints)
    # A network that masks were to grow in is no sparse network without that training.
    blamed = "pruning.hyperparameters.learning_rate" if configuration.search.when == "during" else None
    trained = _trained(network, training, report, blamed)
    return test(trained, splits, device, configuration.run)


def _last_training(
    configuration: Configuration,
    splits: Splits,
    seed: int,
    hyperparameters: Hyperparameters,
    learn_scales: bool,
    device: torch.device,
    checkpoints: Checkpoints | None,
) -> Training:
    return Training(
        splits,
        hyperparameters,
        configuration.final.epochs,
        seed,
        device,
        configuration.data,
        configuration.run,
        learn_scales,
        rule_of(configuration),
        checkpoints,
    )


def test(result: Result, splits: Splits, device: torch.device, run: RunSection) -> Result:
    """The result with its accuracy on the test images."""
    return replace(result, test_accuracy=accuracy(result.network, splits.test, device, run))


def _untrained(network: Network, configuration: Configuration, splits: Splits, device: torch.device) -> Result:
    """A network that a stage leaves as it is, which costs nothing."""
    return Result(network, accuracy(network, splits.validation, device, configuration.run), core_seconds=0.0)


def _trained(network: Network, training: Training, report: Report, blamed: str | None) -> Result:
    """Run a training to its end; ``blamed`` is the key to refuse when it diverges before it has any result."""
    start = time.process_time()
    best, score = train(network, training, report, blamed)
    return Result(best, score, time.process_time() - start)
