"""How long an experiment will take."""

from __future__ import annotations

import random
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import NamedTuple

import torch

from safs_ray import schedules, stages
from safs_ray.config import AUTO, Configuration, PruningSection
from safs_ray.data import Splits
from safs_ray.experiment.finalists import finalist_trainings
from safs_ray.experiment.planning import dense_epochs, pruning_epochs, sweeps
from safs_ray.experiment.pruners import part, rounds
from safs_ray.experiment.rows import sparse_rows
from safs_ray.experiment.stage import DENSE, FINAL, PRUNED, PRUNED_AGAIN, finalists_place
from safs_ray.network import Network
from safs_ray.pruning.structure import select
from safs_ray.search.course import Course
from safs_ray.training import Context, Trainer, Training, begin

BEGIN, END = "begin", "end"
"""The parts of an experiment before its first stage and after its last."""

VALIDATION = 1 / 3
"""What an image without gradients costs of one with them."""

MASKS, SMALL = 64, 1_000_000
"""How many masks are drawn for a network of no more weights than this, to time that with the most live neurons."""

CANDIDATES = 3
"""How many assignments the time of an epoch is measured with."""

SWEEPS, MOST_TRIALS = 50, 100
"""How many sweeps are simulated, and of how many trials at most."""


@dataclass(frozen=True)
class Workers:
    """What trains the networks.

    Attributes:
        count: trainings that run beside each other.
        begin: seconds until there are any workers.
        end: seconds of what is written when all is trained.
        start: seconds until those of a part of the experiment train.
        step: seconds that each step of a trial takes beside its training.
    """

    count: int = 1
    begin: float = 0.0
    end: float = 0.0
    start: float = 0.0
    step: float = 0.0

    def seconds(self, trainings: int, seconds_each: float) -> float:
        """How long so many trainings take."""
        return self.start + max(trainings / self.count, 1) * seconds_each if trainings else 0.0


class SecondsPerEpoch(NamedTuple):
    """Of the network as it is, as sparse as it will be, and so with other operators; on the cores of one trial."""

    dense: float
    sparse: float
    candidate: float


def forecast(configuration: Configuration, epoch: SecondsPerEpoch, workers: Workers) -> dict[str, float]:
    """The seconds that each part of an experiment takes, by its name, in the order of the parts.

    A part is a sweep, or the stages of one kind.

    Args:
        epoch: what one takes, as of :func:`seconds_per_epoch`.
    """
    final, when, pruning = configuration.final, configuration.search.when, configuration.pruning
    dense, sparse, candidate = epoch
    if when == "during":
        searched = last = _while_pruning(configuration, pruning, epoch)
    else:
        searched = dense if when == "before" else candidate
        last = mean((sparse, candidate))  # half of the rows have operators that were found
    parts = {BEGIN: workers.begin}
    if not configuration.model.pruned:
        parts[DENSE] = workers.seconds(1, dense_epochs(configuration) * dense)
        parts |= _pruning(configuration, epoch, workers)
    for course, count in sweeps(configuration):
        steps = expected_steps(configuration, course, count)
        each = mean(course.epochs(each, configuration) for each in steps) * searched + mean(steps) * workers.step
        beside = replace(workers, count=min(workers.count, configuration.tune.max_concurrent or workers.count))
        parts[course.sweep] = beside.seconds(count, each)
        trainings = finalist_trainings(configuration, count)
        each = final.epochs * searched * _finalist_to_candidate(configuration)
        parts[finalists_place(course.sweep)] = workers.seconds(trainings, each)
    if when == "before":
        parts[PRUNED_AGAIN] = sum(_pruning(configuration, epoch, workers).values())
    trainings = len(sparse_rows(configuration)) * final.folds
    return {**parts, FINAL: workers.seconds(trainings, final.epochs * last), END: workers.end}


def _finalist_to_candidate(configuration: Configuration) -> float:
    """How much longer an epoch of a finalist takes than one of a candidate: the images of all folds validate it."""
    held_out, folds = configuration.data.validation, configuration.final.folds
    trained = 1 - folds * held_out
    return (trained + VALIDATION * folds * held_out) / (trained + VALIDATION * held_out)


def _pruning(configuration: Configuration, epoch: SecondsPerEpoch, workers: Workers) -> dict[str, float]:
    """The seconds of each part that makes the network sparse."""
    pruning = configuration.pruning
    if pruning.recipe != AUTO:
        seconds = pruning_epochs(configuration) * _while_pruning(configuration, pruning, epoch)
        return {PRUNED: workers.seconds(1, seconds)}
    recipes = [pruning.by(name, pruning.epochs) for name in pruning.tried]
    each = mean(_while_pruning(configuration, recipe, epoch) for recipe in recipes)
    return {part(epochs): workers.seconds(count, epochs * each) for epochs, count in rounds(configuration)}


def _while_pruning(configuration: Configuration, pruning: PruningSection, epoch: SecondsPerEpoch) -> float:
    """Seconds of an epoch of the trainings by a schedule: the sparser the network is, the shorter, but for the last."""
    nonzero, end = epoch.dense * configuration.run.known_costs.nonzero, 1 - pruning.sparsity
    return mean(min(epoch.dense, epoch.sparse + nonzero * (left - end)) for left in schedules.left(pruning))


def expected_steps(configuration: Configuration, course: Course, trials: int) -> list[int]:
    """How many steps the trials of a sweep take, in simulations of it; of sweeps that stop no trial, one number.

    One trial after the other comes to a rung, and is stopped there by ASHA's rule: when it is weaker than the given
    quantile of those before it. A trial that is better than another is so at every rung.
    """
    rungs, draws = course.rungs(configuration), random.Random(0)
    if not rungs:
        return [course.steps]
    quantile = 1 - 1 / configuration.tune.reduction_factor
    sweeps = ([draws.random() for _ in range(min(trials, MOST_TRIALS))] for _ in range(SWEEPS))
    return [steps for trials in sweeps for steps in _steps_of_trials(trials, rungs, quantile, course.steps)]


def _steps_of_trials(strengths: Sequence[float], rungs: Sequence[int], quantile: float, steps: int) -> Iterator[int]:
    """How far each trial comes, in their order."""
    reached: dict[int, list[float]] = {rung: [] for rung in rungs}  # ascending
    for strength in strengths:
        for rung in rungs:
            before = reached[rung]
            stopped = bool(before) and strength < _quantile(before, quantile)
            insort(before, strength)
            if stopped:
                yield rung
                break
        else:
            yield steps


def _quantile(ascending: Sequence[float], part: float) -> float:
    """That below which a part of the values lies, between two of them by a straight line, as ASHA's percentile."""
    place = part * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


def seconds_per_epoch(configuration: Configuration, network: Network, splits: Splits) -> SecondsPerEpoch:
    """Measure the time of an epoch on the cores of one trial."""
    threads = torch.get_num_threads()
    torch.set_num_threads(configuration.tune.resources.cpu)
    try:
        if configuration.task.loop:
            each = _by_loop(configuration, network, splits)
            return SecondsPerEpoch(each, each, each)
        pruned = _as_sparse(configuration, network)
        sparse = _measured(configuration, pruned, splits)
        dense = sparse if network.masks else _measured(configuration, network, splits)
        candidates = [_measured(configuration, each, splits) for each in _candidates(configuration, pruned)]
        return SecondsPerEpoch(dense, sparse, mean(candidates))
    finally:
        torch.set_num_threads(threads)


def _by_loop(configuration: Configuration, network: Network, splits: Splits) -> float:
    """Seconds of an epoch of the user's own loop, which takes as long whatever the masks."""
    context = Context(configuration, splits, stages.device_here(configuration))
    training = Training(context, configuration.pruning.hyperparameters, epochs=1, seed=context.seed)
    start = time.perf_counter()
    begin([network], training).run()
    return time.perf_counter() - start


def _candidates(configuration: Configuration, network: Network) -> Iterator[Network]:
    """A network with operators of the search, drawn at random: most take longer than ReLU."""
    draws = random.Random(0)
    for _ in range(CANDIDATES):
        yield network.assign(draws.choices(configuration.search.operators, k=len(network.sites)))


def _as_sparse(configuration: Configuration, network: Network) -> Network:
    """A network as sparse as this one will be."""
    if configuration.model.pruned:
        return network
    section = configuration.pruning
    if section.recipe == AUTO:
        section = section.model_copy(
            update={"allocation": "global" if section.structure == "unstructured" else "layer"}
        )
    return max(_drawn(network, section), key=_live_count(network))


def _drawn(network: Network, section: PruningSection) -> Iterator[Network]:
    """Networks with masks drawn at random, several of a small network.

    Scores are the reciprocals of ranks within a layer: by these one ranking over all layers keeps about as many weights
    of each, as it does of trained ones. By the magnitudes of initial weights it would empty whole layers.
    """
    draws = torch.Generator().manual_seed(0)
    for _ in range(MASKS if network.prunable_count <= SMALL else 1):
        scores = {
            name: 1 / (1 + torch.randperm(weight.numel(), generator=draws)).view(weight.shape)
            for name, weight in network.prunable().items()
        }
        yield network.masked(select(scores, section.sparsity, section, {}, network))


def _live_count(network: Network) -> Callable[[Network], int]:
    """Counts the neurons that are computed: training keeps what conducts, where chance leaves most neurons dead."""
    from safs_ray.sparse.graph import UnsupportedError, read  # here: numba takes half a second to import
    from safs_ray.sparse.plan import live_count

    try:
        return partial(live_count, read(network.build(), network.specification.example()))
    except UnsupportedError:
        return lambda _: 0


def _measured(configuration: Configuration, network: Network, splits: Splits) -> float:
    """Seconds of an epoch, measured on three batches."""
    few = splits.train[: 3 * configuration.dense.hyperparameters.batch_size]
    context = Context(configuration.for_few_examples, Splits(few, few[:1], few[:0]))
    trainer = Trainer([network], Training(context, configuration.dense.hyperparameters, 2, context.seed))
    trainer.run_epoch()  # the first is slower: torch prepares
    start = time.perf_counter()
    trainer.run_epoch()
    images = len(splits.train) + VALIDATION * len(splits.validation)
    return (time.perf_counter() - start) / (len(few) + VALIDATION) * images
