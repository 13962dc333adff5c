"""The choice of a pruner: which weights are zero matters more than any activation.

Successive halving (Karnin et al. 2013; Jamieson & Talwalkar 2016): every recipe makes the dense network sparse in a
quarter of the epochs, the better half of them does so in a half, and the better half of those in all. Every try starts
from the dense network, since a schedule depends on how long it is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from safs_ray import stages
from safs_ray.config import Configuration, ConfigurationError, counted, refusal
from safs_ray.experiment.stage import DENSE, PRUNED, PRUNERS, Executor, Stage
from safs_ray.log import event, log, percent
from safs_ray.stages import Result
from safs_ray.training import Context

Tried = dict[str, dict[str, Any]]
"""By recipe, the best first: epochs and validation_accuracy of each try, and core_seconds of all."""

SHARES = (4, 2, 1)
"""What the epochs of ``pruning.epochs`` are divided by in each round."""


def choose_pruner(configuration: Configuration, executor: Executor) -> Tried:
    """Try the recipes of ``pruning.recipe`` auto, and keep what the best of them made as the pruned network.

    A budget that ends meanwhile leaves tries out, but not that of the best in all epochs.

    Raises:
        ConfigurationError: no recipe made the network sparse.
    """
    left, tried = list(configuration.pruning.tried), Tried()
    log.info("pruners: %s", ", ".join(left), extra=event("pruners", recipes=left))
    for epochs, count in rounds(configuration):
        names = left[:count]
        needed = names[0] if epochs == configuration.pruning.epochs else None
        executor.run([_try(configuration, name, epochs, expendable=name != needed) for name in names])
        there = [name for name in names if executor.has(place(name, epochs))]
        made = {name: executor.result(place(name, epochs)) for name in there}
        for name, result in made.items():
            known = tried.setdefault(name, {"epochs": [], "validation_accuracy": [], "core_seconds": 0.0})
            known["epochs"].append(epochs)
            known["validation_accuracy"].append(result.validation_accuracy)
            known["core_seconds"] += result.core_seconds
        if made:
            left = sorted(made, key=lambda name: made[name].validation_accuracy, reverse=True)
            best = made[left[0]]
    if best.validation_accuracy <= configuration.worst_score:
        raise refusal("pruning.recipe", "auto", f"none of {', '.join(tried)} made the network sparse")
    executor.keep(PRUNED, best)
    accuracy = best.validation_accuracy
    details = event("pruner", recipe=left[0], validation_accuracy=accuracy)
    log.info("pruners: %s is the best, with validation %s", left[0], percent(accuracy).strip(), extra=details)
    return dict(sorted(tried.items(), key=lambda item: _rank(item[1]), reverse=True))


def rounds(configuration: Configuration) -> list[tuple[int, int]]:
    """Epochs of a try and number of recipes, round by round; the best of a half, rounded up, goes on.

    Where that is one alone, it goes on to the last round at once.

    Examples:
        >>> from safs_ray.config import validate
        >>> rounds(validate({"pruning": {"recipe": "auto", "epochs": 20, "recipes": ["erk", "gsm", "gradual"]}}))
        [(5, 3), (10, 2), (20, 1)]
    """
    planned, count = [], len(configuration.pruning.tried)
    for share in SHARES:
        if count > 1 or share == 1:
            planned.append((configuration.pruning.epochs // share, count))
        count = (count + 1) // 2
    return planned


def place(recipe: str, epochs: int) -> str:
    """The name of the result of a try."""
    return f"{PRUNERS}/{recipe}/epochs-{epochs}"


def part(epochs: int) -> str:
    """The part of the experiment that is a round; see :attr:`Stage.part`."""
    return f"{PRUNERS}/epochs-{epochs}"


def words(tried: Tried) -> str:
    """The recipes that were tried, the best first, each with its last accuracy."""
    each = (
        f"{name} {percent(known['validation_accuracy'][-1]).strip()} ({counted(known['epochs'][-1], 'epoch')})"
        for name, known in tried.items()
    )
    return ", ".join(each)


def _rank(known: dict[str, Any]) -> tuple[int, float]:
    """What was trained longer ranks higher, then what is more accurate."""
    return len(known["epochs"]), known["validation_accuracy"][-1]


def _try(configuration: Configuration, recipe: str, epochs: int, expendable: bool) -> Stage:
    """The stage that makes the dense network sparse by one recipe."""
    section = configuration.pruning.by(recipe, epochs)

    def make(dense: Result | None, context: Context) -> Result:
        assert dense
        start = time.process_time()
        own = replace(context, configuration=context.configuration.model_copy(update={"pruning": section}))
        try:
            return stages.prune(dense.network, own)
        except ConfigurationError as error:  # this network has no such score, or the training diverged
            log.info("pruners: %s: %s", recipe, error)
            return Result(dense.network, configuration.worst_score, time.process_time() - start)

    return Stage(place(recipe, epochs), epochs, make, DENSE, expendable=expendable)
