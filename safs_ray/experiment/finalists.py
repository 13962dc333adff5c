"""Finalists: the best trials of a sweep beside the default recipe, all trained again.

One training says little of a very sparse network, and a search may find nothing: so the default recipe is always a
finalist, and wins unless another one does better on average by more than two standard errors. They are validated on the
images that every fold holds out, most of which the search has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, variance
from typing import NamedTuple

from safs_ray import stages
from safs_ray.config import Configuration, counted
from safs_ray.data import Folds
from safs_ray.experiment.results import Finalists, again
from safs_ray.experiment.stage import DEFAULT, Executor, Outcome, Stage, finalists_place
from safs_ray.log import event, log, percent
from safs_ray.search.course import Course, Sweep
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context


class Default(NamedTuple):
    """The default recipe: the network's own operators, the default hyperparameters, no scales.

    Attributes:
        start: name of the result whose network it trains.
    """

    recipe: Recipe
    start: str


def winner(
    configuration: Configuration,
    course: Course,
    start: str,
    recipe: Recipe | None,
    default: Default,
    executor: Executor,
    finalists: Finalists,
) -> Recipe:
    """Run a sweep; the recipe that does best when its best trials and the default recipe are trained again.

    The default recipe wins where the budget has ended before anything could be compared with it.

    Args:
        start: name of the result whose network the trials begin from.
        recipe: whose assignment that network is given first; None for its own.
        finalists: takes how they did.
    """
    always, seeds = _of_default(default.recipe), range(configuration.final.seeds)
    meanwhile = [_training(configuration, course.sweep, always, seed, default.start) for seed in seeds]
    outcomes = executor.sweep(course, start, recipe.assignment if recipe else None, meanwhile)
    if not outcomes:
        return _nothing_found(course.sweep, default.recipe)
    last = finalists_of(outcomes, default.recipe, configuration.final.finalists)
    starts = [default.start if outcome.trial == DEFAULT else start for outcome in last]
    last, trained = _train_again(configuration, course.sweep, last, starts, executor)
    if not trained:
        return _nothing_found(course.sweep, default.recipe)
    accuracies = [[result.validation_accuracy for result in each] for each in trained]
    won = winner_of(accuracies, len(executor.folds.finalists().validation))
    finalists[course.sweep] = {
        outcome.trial: again(of_it, [result.core_seconds for result in each], won=place == won)
        for place, (outcome, of_it, each) in enumerate(zip(last, accuracies, trained, strict=True))
    }
    _tell(course.sweep, last, accuracies, won)
    return last[won].recipe


def finalists_of(outcomes: Sequence[Outcome], default: Recipe, most: int) -> list[Outcome]:
    """The default recipe, and at most so many outcomes after it, the best first; of equal recipes only the first.

    Args:
        outcomes: of the trials that reached their end, by number; at least one.
    """
    ranked = sorted(outcomes, key=lambda outcome: outcome.accuracy, reverse=True)
    first = {outcome.recipe: outcome for outcome in reversed(ranked)}
    others = [outcome for outcome in ranked if first[outcome.recipe] is outcome and outcome.recipe != default]
    return [_of_default(default), *others[:most]]


def _of_default(recipe: Recipe) -> Outcome:
    """The finalist that no trial has found."""
    return Outcome(DEFAULT, recipe, 0.0)


def winner_of(accuracies: Sequence[Sequence[float]], examples: int) -> int:
    """The place of the winner: of those surely better than the first, the best; else the first.

    Surely is by more than two standard errors. Breiman et al. (Classification and Regression Trees, 1984, 3.4.3) choose
    the simplest tree within one standard error of the best; but of three finalists that are as good as the first, the
    best one is ahead by one standard error in two runs of five, and by two in one of fifteen.

    Args:
        accuracies: of the trainings of each finalist, in the same order of seeds; the default recipe's come first.
        examples: that each accuracy was measured on; 0 where that is not known.

    Examples:
        >>> [winner_of([[0.90, 0.90], [0.92, 0.92]], examples) for examples in (500, 1000)]
        [0, 1]
    """
    default, means = accuracies[0], [mean(values) for values in accuracies]
    surely = [
        place
        for place, values in enumerate(accuracies)
        if means[place] - means[0] > SURE * standard_error(values, default, examples)
    ]
    return max(surely, key=means.__getitem__, default=0)


SURE = 2
"""Standard errors by which a finalist has to be better than the default recipe."""


def standard_error(accuracies: Sequence[float], others: Sequence[float], examples: int) -> float:
    """How far the mean of accuracies may lie above that of others by chance.

    Two chances count. Which examples are held out: the mean of n numbers in [0, 1] has a variance of p (1 - p) / n if
    each is 0 or 1, else less; p is here the mean of both. All trainings see the same examples, so more trainings do not
    help. And which batches a training draws: the variance of k differences, seed by seed, over k.

    Args:
        accuracies, others: of trainings with the same seeds.
        examples: n; 0 where that is not known.

    Examples:
        >>> standard_error([0.9], [0.7], examples=100)
        0.04
        >>> standard_error([1.0, 0.75], [0.5, 0.5], examples=0)
        0.125
    """
    p, differences = mean((*accuracies, *others)), [one - other for one, other in zip(accuracies, others, strict=True)]
    by_examples = max(0.0, p * (1 - p)) / examples if examples else 0.0  # scores of a user's own loop may be above 1
    by_batches = variance(differences) / len(differences) if len(differences) > 1 else 0.0
    return math.sqrt(by_examples + by_batches)


def finalist_epochs(configuration: Configuration, trials: int) -> int:
    """Epochs that the finalists of a sweep of so many trials are trained in all."""
    return finalist_trainings(configuration, trials) * configuration.final.epochs


def finalist_trainings(configuration: Configuration, trials: int) -> int:
    """Trainings of the finalists of a sweep of so many trials; one of them is the default recipe."""
    return (min(trials, configuration.final.finalists) + 1) * configuration.final.seeds


def _tell(sweep: Sweep, finalists: Sequence[Outcome], accuracies: Sequence[Sequence[float]], won: int) -> None:
    best, means = finalists[won], [mean(values) for values in accuracies]
    details = event("won", sweep=sweep, trial=best.trial, validation_accuracy=means[won])
    how = f"validation {percent(means[won]).strip()}, the mean of {counted(len(accuracies[won]), 'training')}"
    if won:
        searched = percent(best.accuracy).strip()
        log.info("%s: %s wins with %s (%s in the search)", sweep, best.trial, how, searched, extra=details)
    else:
        highest = percent(max(means)).strip()
        above = f"; {highest}, the highest, is within two standard errors" if max(means) > means[0] else ""
        nothing = "%s: the search has found nothing surely better than the default recipe, with %s%s"
        log.info(nothing, sweep, how, above, extra=details)


def _nothing_found(sweep: Sweep, default: Recipe) -> Recipe:
    log.info("%s: the budget has ended before the default recipe could be compared", sweep)
    return default


def _train_again(
    configuration: Configuration, sweep: Sweep, finalists: Sequence[Outcome], starts: Sequence[str], executor: Executor
) -> tuple[list[Outcome], list[list[Result]]]:
    """The finalists that can be compared and the trainings of each, all of which run beside each other."""
    seeds, trials = range(configuration.final.seeds), [outcome.trial for outcome in finalists]
    details = event("finalists", sweep=sweep, trials=trials, trainings=len(seeds))
    many = f"{counted(len(trials) - 1, 'finalist')} and the default recipe"
    log.info("%s: %s, each trained %s more", sweep, many, counted(len(seeds), "time"), extra=details)
    executor.discard(finalists_place(sweep), but=trials)  # of a sweep that has gone on since
    begun = list(zip(finalists, starts, strict=True))
    executor.run([_training(configuration, sweep, each, number, start) for number in seeds for each, start in begun])
    return _comparable(sweep, finalists, seeds, executor)


def _comparable(
    sweep: Sweep, finalists: Sequence[Outcome], seeds: Sequence[int], executor: Executor
) -> tuple[list[Outcome], list[list[Result]]]:
    """The finalists with any trainings, and of these as many as all have; nothing without the default recipe's.

    A budget that ends leaves some out. Those of all finalists with one seed are begun before those with the next.
    """
    places = {outcome: finalists_place(sweep, outcome.trial) for outcome in finalists}
    made = {
        outcome: {seed for seed in seeds if executor.has(f"{places[outcome]}/seed-{seed}")} for outcome in finalists
    }
    if not made[finalists[0]]:
        return [], []
    there = [outcome for outcome in finalists if made[outcome]]
    common = sorted(set.intersection(*(made[outcome] for outcome in there)))
    return there, [[executor.result(f"{places[outcome]}/seed-{seed}") for seed in common] for outcome in there]


def _training(configuration: Configuration, sweep: Sweep, finalist: Outcome, number: int, start: str) -> Stage:
    """The stage that is one training of a finalist."""

    def make(initial: Result | None, context: Context) -> Result:
        assert initial
        return stages.train_finalist(initial.network, context, finalist.recipe, number)

    name = f"{finalists_place(sweep, finalist.trial)}/seed-{number}"
    epochs, images = configuration.final.epochs, Folds.finalists
    return Stage(name, epochs, make, start, images, recipe=finalist.recipe, expendable=True)
