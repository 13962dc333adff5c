"""Before any work: the process, the images, and whether everything fits together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from safs_ray import machine, models, sources
from safs_ray.accuracy import evaluation_batch
from safs_ray.config import Configuration, counted, refusal
from safs_ray.data import Dataset, Folds, Splits, batch_count, moments
from safs_ray.losses import CROSS_ENTROPY
from safs_ray.metrics import OwnMetric, metric_of
from safs_ray.models import Specification
from safs_ray.models.specification import Kind
from safs_ray.network import Network
from safs_ray.operators import check_names, find
from safs_ray.pruning import contract as pruning_contract
from safs_ray.pruning.scores import find_score
from safs_ray.pruning.structure import coupled, least_share
from safs_ray.randomness import generator
from safs_ray.references import is_reference, resolve
from safs_ray.search import contract as search_contract
from safs_ray.stages.rehearsal import rehearse, rehearse_loop
from safs_ray.storage import Folder
from safs_ray.training.goal import check_weights, loss_of


def set_up(configuration: Configuration) -> torch.device:
    """Prepare this process for a stage: threads, subnormal numbers, and whether a GPU gives the same bits every time.

    Sparse networks may die. Weight decay then halves their weights until these, and Adam's squares of gradients long
    before, are below the smallest normal number, with which processors compute ten times slower. They count as zero.

    Returns:
        The device that the configuration names; "auto" is a GPU where this process sees one and may use it.
    """
    name = configuration.run.device
    if name == "auto":
        # Ray leaves all GPUs visible to a process that was given none.
        name = "cuda" if torch.cuda.is_available() and configuration.tune.resources.gpu != 0 else "cpu"
    torch.set_flush_denormal(True)  # before torch starts its threads: those that it has started keep their own way
    torch.set_num_threads(configuration.tune.resources.cpu)
    if name == "cuda":
        same = configuration.run.deterministic
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS's sums come in any order
        torch.use_deterministic_algorithms(same, warn_only=True)
        torch.backends.cudnn.benchmark = not same
    return torch.device(name)


def flushes_subnormals() -> bool:
    """Whether this thread takes numbers below the smallest normal one for zero."""
    return (torch.tensor(1e-40) * 1).item() == 0


def load(configuration: Configuration) -> Dataset:
    """The run's images, the pool in an order drawn from the run's seed that has every class in every fold.

    Raises:
        ConfigurationError: the images cannot be read or do not fit together, or a class has too few of them for the
            folds; or, before any is read, there is no network or operator of a name or this machine has not the
            resources.
    """
    _check_without_images(configuration)
    dataset = sources.load(configuration.data, _images_folder(configuration))
    _check_classes(configuration, dataset)
    return dataset.arranged(configuration.run.seed, configuration.data.validation, configuration.final.folds)


def _images_folder(configuration: Configuration) -> Path | None:
    """Where decoded images may lie: beside the run, where that is on a disk."""
    place = Folder.at(configuration.run.storage)
    return None if place.root else Path(place.path) / ".images"


def folds(configuration: Configuration, dataset: Dataset) -> Folds:
    """The run's folds of the images that :func:`load` gave."""
    return Folds(dataset, configuration.data.validation, configuration.final.folds)


def specify(configuration: Configuration, dataset: Dataset, splits: Splits) -> Specification:
    """The network's specification for these images, normalised by the training images of the split unless told.

    Raises:
        ConfigurationError: no such network, or a mean of other channels than the images have.
    """
    mean, deviation = configuration.data.mean, configuration.data.deviation
    inputs = dataset.pool.inputs
    if (not mean or not deviation) and dataset.outputs:
        mean, deviation = splits.train.statistics()
    elif not mean or not deviation:  # whoever knows the data gives them to the network as it wants them
        count = 0 if inputs.dtype == torch.int64 else dataset.shape[0]
        mean, deviation = (0.0,) * count, (1.0,) * count
    indices = int(inputs.max()) + 1 if inputs.dtype == torch.int64 else 0
    if len(mean) != (0 if indices else dataset.shape[0]):
        noun = "images" if inputs.dtype == torch.uint8 and inputs.dim() == 4 else "inputs"
        has = "indices, which are not normalised" if indices else counted(dataset.shape[0], "channel")
        raise refusal("data.mean", mean, f"the {noun} have {has}")
    name, exclude = configuration.model.name, configuration.model.exclude
    if exclude is None:
        exclude = models.find(name).exclude
    kind = cast(Kind, str(inputs.dtype).removeprefix("torch."))
    scales = _scales_of_targets(configuration, splits)
    specification = Specification(
        name, dataset.shape, dataset.outputs, mean, deviation, exclude, kind, indices, *scales
    )
    return specification if dataset.outputs else replace(specification, outputs=models.outputs_of(specification))


def _scales_of_targets(configuration: Configuration, splits: Splits) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the values to predict, by output; none of classes, of labels, and of a loss of a user's."""
    section = configuration.data
    wanted = configuration.model.weights is None if section.scale_targets is None else section.scale_targets
    if section.task != "regression" or is_reference(section.chosen_loss) or not wanted:
        return (), ()
    return moments(splits.train.labels.T)


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
            fit into memory, channels to prune that cannot go, or sites that cannot be grouped.
    """
    _check_without_images(configuration)
    find(configuration.search.operators, "search.operators")
    if len(splits.train) < 2:
        images = counted(len(splits.train), "image")
        allowed = f"{counted(configuration.final.folds, 'fold')} of it leave {images} to train on; at least 2"
        raise refusal("data.validation", configuration.data.validation, allowed)
    check_weights(configuration.data, dataset.outputs)
    specification = specify(configuration, dataset, splits)
    if configuration.task.loop:
        resolve(configuration.task.loop, "task.loop")
    else:
        _check_goal(configuration, specification, splits)
    models.check(specification, (1, 2, min(evaluation_batch(splits.train.inputs), len(splits.validation))))
    _check_batches(configuration, specification, dataset, splits)
    if models.is_own(specification) and specification.kind != "uint8":
        models.check_extremes(specification, {"training": dataset.pool.inputs, "test": dataset.test.inputs})
    network = Network.initial(specification, configuration.run.seed)
    if not network.prunable_count:
        raise refusal("model.name", specification.model, "has no convolution or linear layer that could be pruned")
    _check_channels(configuration, network)
    searchable(network, configuration)
    _check_own_parts(configuration)
    if models.is_own(specification):
        rehearse(network, configuration, splits)
    if configuration.task.loop:
        rehearse_loop(network, configuration, splits, device_here(configuration))
    return network


def _check_goal(configuration: Configuration, specification: Specification, splits: Splits) -> None:
    """Refuse a loss or a metric of a user's own that takes no outputs and labels as there are here."""
    section, few, validation = configuration.data, splits.train[:TRIED], splits.validation
    if isinstance(metric := metric_of(section), OwnMetric):
        draws = generator(0, "outputs of the validation")
        metric.check(torch.rand(len(validation), specification.outputs, generator=draws), validation.labels)
    outputs = torch.rand(len(few), specification.outputs, generator=generator(0, "outputs"), requires_grad=True)
    reason = f"must return the mean loss of outputs {tuple(outputs.shape)}, a finite scalar with a gradient"
    loss = loss_of(section, splits.train, CROSS_ENTROPY)
    try:
        value = loss(outputs, few.standardised(specification.standardised).targets)
        value.backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise refusal("data.loss", section.chosen_loss, f"{reason} ({type(error).__name__}: {error})") from None
    if outputs.grad is None or not value.isfinite():
        returns = f"returns {value.item():g}" if outputs.grad is not None else "depends on no output"
        raise refusal("data.loss", section.chosen_loss, f"{reason}; {returns}")


TRIED = 8
"""Examples that a loss is tried on."""


def _check_own_parts(configuration: Configuration) -> None:
    """Refuse a strategy or a score of a user's own that breaks what all of them promise."""
    strategy, score = configuration.search.strategy, configuration.pruning.score
    if is_reference(strategy) and (fault := search_contract.fault_of(resolve(strategy, "search.strategy"))):
        raise refusal("search.strategy", strategy, fault)
    if is_reference(score) and (fault := pruning_contract.fault_of(find_score(score))):
        raise refusal("pruning.score", score, fault)
    if is_reference(configuration.pruning.schedule):
        resolve(configuration.pruning.schedule, "pruning.schedule")


def _check_without_images(configuration: Configuration) -> None:
    models.find(configuration.model.name)
    check_names(configuration.search.operators, "search.operators")
    _check_resources(configuration)


def _check_classes(configuration: Configuration, dataset: Dataset) -> None:
    """Refuse classes that cannot be in the validation images of every fold and in what all train on."""
    if not dataset.pool.has_classes:
        return
    folds = configuration.final.folds
    counts, tested = (torch.bincount(part.labels, minlength=dataset.outputs) for part in (dataset.pool, dataset.test))
    scarce = torch.nonzero((counts <= folds) & (counts + tested > 0)).flatten().tolist()
    if scarce:
        few = f"class {dataset.name_of(scarce[0])} has {counted(int(counts[scarce[0]]), 'training image')}"
        others = counted(len(scarce) - 1, "other class", "other classes")
        more = f", beside {others} with too few" if scarce[1:] else ""
        needed = f"{counted(folds, 'fold')} need {folds + 1:,}: one to validate on in each, and one to train on"
        raise refusal("final.folds", folds, f"{few}{more}; {needed}")


def _check_channels(configuration: Configuration, network: Network) -> None:
    """Refuse to prune the channels of a network in which none can go, or more of them than can."""
    section = configuration.pruning
    if configuration.model.pruned or not section.prunes_channels:
        return
    if configuration.search.when != "after":  # it is pruned as the search divides its sites
        network = searchable(network, configuration)
    coupling, weights = coupled(network, section), network.prunable()
    if not coupling.layers:
        reason = {
            "filters": "no channel can go: each is tied to the inputs or outputs",
            "heads": "no attention is known in it: linear layers, a softmax without masks, and a linear layer",
        }[section.structure]
        raise refusal("pruning.structure", section.structure, f"{reason}; allowed: unstructured, N:M, blocks:BxC")
    if section.macs is not None:
        share = least_share(coupling, weights)
        if section.macs < share:
            reason = f"the fewest channels that its layers keep take {share:.2g} of the multiply-adds"
            raise refusal("pruning.macs", section.macs, f"{reason}; allowed: at least so many")


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
        if takes > room and configuration.run.address == "local" and device_here(configuration).type == "cpu":
            images = f"{counted(largest, specification.noun)} of {specification.size}"
            there = f"and {machine.readable(room)} of memory are free"
            raise refusal(key, batch_size, f"a step of training with {images} takes {machine.readable(takes)}, {there}")


def device_here(configuration: Configuration) -> torch.device:
    """Where stages compute if they run on this machine."""
    gpus = configuration.tune.resources.gpu
    gpu = configuration.run.device != "cpu" and gpus != 0 and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def _check_resources(configuration: Configuration) -> None:
    resources, cores = configuration.tune.resources, machine.cores()
    if configuration.run.device == "cuda" and resources.gpu == 0:
        raise refusal("tune.resources.gpu", resources.gpu, "run.device=cuda needs more than 0")
    if configuration.run.address != "local":
        return  # the cluster may grow
    if resources.cpu > cores:
        raise refusal("tune.resources.cpu", resources.cpu, f"this process may use {counted(cores, 'core')}")
    if configuration.run.device == "cuda" and not torch.cuda.device_count():
        raise refusal("run.device", "cuda", "torch finds no GPU on this machine; allowed: auto, cpu")
    if (resources.gpu or 0) > torch.cuda.device_count():
        has = f"this machine has {counted(torch.cuda.device_count(), 'GPU')}"
        raise refusal("tune.resources.gpu", resources.gpu, has)
