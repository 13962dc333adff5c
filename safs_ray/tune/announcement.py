"""What a run says of itself before it begins: what it will do, and about how long."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from safs_ray import experiment, machine
from safs_ray.config import AUTO, Configuration, PruningSection, counted
from safs_ray.data import Splits
from safs_ray.experiment.forecasting import SecondsPerEpoch, Workers, seconds_per_epoch
from safs_ray.log import duration
from safs_ray.network import Network
from safs_ray.pruning.masks import count_kept
from safs_ray.pruning.structure import select
from safs_ray.search.course import Course, Sweep
from safs_ray.storage import Folder
from safs_ray.tune.invocation import program, quoted, resume_command
from safs_ray.tune.status import parts_done

BEGIN_SECONDS, START_SECONDS, STEP_SECONDS, END_SECONDS = 4.0, 2.5, 0.05, 8.0
"""Until Ray has begun, until its workers have begun with a part of the experiment, a step beside its training, and
until the table and the page are written."""


def announce(
    configuration: Configuration,
    splits: Splits,
    network: Network,
    folder: Folder,
    seconds: float,
    budget: Sequence[str],
    console: Console,
) -> None:
    """Say what will run and about how long.

    Args:
        seconds: that the run will take.
        budget: lines on what follows from ``run.budget``.
    """
    plan = experiment.plan(configuration)
    specification = network.specification
    console.print(
        f"{configuration.run.name}: {configuration.model.name} {_data(configuration, splits)}"
        f"{specification.noun}s of {specification.size}, {_outputs(splits, specification.outputs)}\n"
        f"{_origin(configuration, network)}{_training(configuration)}"
        f"  {counted(len(network.sites), 'site')}{_division(configuration)}, "
        f"{counted(len(configuration.search.operators), 'operator')}, "
        f"{', '.join(_trials(*sweep) for sweep in experiment.sweeps(configuration)) or 'no search'}, "
        f"{counted(configuration.final.folds, 'fold')}\n"
        f"  at most {counted(sum(plan.values()), 'epoch')} ({', '.join(f'{name} {n:,}' for name, n in plan.items())})\n"
        f"  about {duration(seconds)} on {counted(workers(configuration).count, 'worker')} of this machine\n"
        f"{''.join(f'  {line}{chr(10)}' for line in budget)}"
        f"{_expectation(configuration)}"
        f"  run folder {folder}\n"
        f"  watch      {program('tensorboard')} --logdir {quoted(folder)}\n"
        f"  resume     {resume_command(folder)}   (after an interruption)",
        soft_wrap=True,
    )


def _data(configuration: Configuration, splits: Splits) -> str:
    """By what the networks are trained, and on how many examples where that is known."""
    by = f"by {configuration.task.loop} " if configuration.task.loop else ""
    if configuration.data.unlabelled:
        return f"{by}on its own data, "
    held_out = f"{len(splits.validation):,} validation and {len(splits.test):,} test "
    return f"{by}on {configuration.data.source}, {len(splits.train):,} training, {held_out}"


def _outputs(splits: Splits, outputs: int) -> str:
    return f"{outputs} classes" if splits.train.has_classes else counted(outputs, "output")


def _trials(course: Course, count: int) -> str:
    """How many trials a sweep has, and what each does unless it is stopped."""
    evaluations = counted(course.evaluations, "evaluation")
    each = [evaluations] * (course.evaluations > 0) + ["a fine-tuning"] * (course.stretches > 0)
    kind = "trial" if course.searches_hyperparameters else "chain"
    row = " for the row stage 2" if course.sweep is Sweep.SCALES else ""
    return f"{counted(count, kind)} of {' and '.join(each)}{row}"


def _expectation(configuration: Configuration) -> str:
    """A line on what the search gained where it was measured."""
    expected = experiment.expectation(configuration)
    return f"  expect     {expected}\n" if expected else ""


def _training(configuration: Configuration) -> str:
    """A line on what sparse networks learn from beside their labels, and on means."""
    words = configuration.training.words
    return f"  trained with {', '.join(words)}\n" if words else ""


def _division(configuration: Configuration) -> str:
    search = configuration.search
    return {"layer": "", "network": " of one operator", "group": f" of {search.groups} groups"}[search.granularity]


def _origin(configuration: Configuration, network: Network) -> str:
    """Where the weights come from, and how many stay."""
    lines = f"  starts from {configuration.model.weights}\n" if configuration.model.weights else ""
    if not configuration.model.pruned:
        return f"{lines}  {_pruning(configuration.pruning, network)}\n"
    kept, count = network.nonzero_weights, network.prunable_count
    left = f"{kept:,} of {counted(count, 'weight')} stay"
    return f"{lines}  sparsity {100 * network.sparsity:.6g} % as it comes: {left}\n"


def _pruning(section: PruningSection, network: Network) -> str:
    """How many weights will be left, and by which pruner."""
    magnitudes = {name: weight.abs() for name, weight in network.prunable().items()}
    left = count_kept(select(magnitudes, section.sparsity, section, {}, network))  # as many as by any score
    about = "about " if section.prunes_channels or section.block else ""
    of_what = f" of the {section.structure}" if section.prunes_channels else ""
    goal = f"sparsity {100 * section.sparsity:g} %{of_what}"
    if section.macs is not None:
        goal = f"to {100 * section.macs:g} % of the multiply-adds"
        if section.latency is not None:
            goal += f", for {100 * section.latency:g} % of the time of one input,"
    how = (
        f"the best of {counted(len(section.tried), 'recipe')}, structure {section.structure}"
        if section.recipe == AUTO
        else f"{section.score}, allocation {section.allocation}, structure {section.structure}, "
        f"schedule {section.schedule}"
    )
    return f"{goal} by {how}: {about}{left:,} of {counted(network.prunable_count, 'weight')} stay"


def measured(configuration: Configuration, network: Network, splits: Splits) -> SecondsPerEpoch:
    """What an epoch takes here."""
    seconds = seconds_per_epoch(configuration, network, splits)
    machine.give_back_memory()  # this process trains no more, and the others want it
    return seconds


def forecast(configuration: Configuration, epoch: SecondsPerEpoch, folder: Folder) -> dict[str, float]:
    """The seconds that each part of a run takes, by its name, without what is done of it."""
    seconds = experiment.forecast(configuration, epoch, workers(configuration))
    for part in parts_done(configuration, folder):
        if part.name in seconds:  # the network of a file is there without work
            seconds[part.name] *= 1 - part.share
    return seconds


def workers(configuration: Configuration) -> Workers:
    """The workers that Ray starts on this machine."""
    count = max(1, machine.cores() // configuration.tune.resources.cpu)
    return Workers(count, begin=BEGIN_SECONDS, end=END_SECONDS, start=START_SECONDS, step=STEP_SECONDS)
