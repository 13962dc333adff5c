"""Finalists: the best trials of a sweep, trained again, because one training says little of a very sparse network."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from safs_ray import stages
from safs_ray.config import Configuration, counted
from safs_ray.experiment.results import Finalists, spread
from safs_ray.experiment.stage import Executor, Outcome, Stage, finalists_place
from safs_ray.log import event, log, percent
from safs_ray.search.course import Course, Sweep
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context


def winner(
    configuration: Configuration,
    course: Course,
    start: str,
    recipe: Recipe | None,
    executor: Executor,
    finalists: Finalists,
) -> Recipe:
    """Run a sweep; what the best of its trials has found, of several finalists the best when trained again.

    Args:
        start: name of the result whose network the trials begin from.
        recipe: whose assignment that network is given first; None for its own.
        finalists: takes how they did.
    """
    outcomes = executor.sweep(course, start, recipe.assignment if recipe else None)
    last = finalists_of(outcomes, configuration.final.finalists)
    best, accuracy, how = last[0], last[0].accuracy, ""
    if len(last) > 1:
        trained = _train_again(configuration, course.sweep, last, start, executor)
        best, accuracy = winner_of(last, [[result.validation_accuracy for result in each] for each in trained])
        finalists[course.sweep] = {
            outcome.trial: {
                "validation_accuracy": spread([result.validation_accuracy for result in each]),
                "core_seconds": sum(result.core_seconds for result in each),
            }
            for outcome, each in zip(last, trained, strict=True)
        }
        how = f", the mean of {counted(len(trained[0]), 'training')} ({percent(best.accuracy).strip()} in the search)"
    details = event("won", sweep=course.sweep, trial=best.trial, validation_accuracy=accuracy)
    log.info("%s: %s wins with validation %s%s", course.sweep, best.trial, percent(accuracy), how, extra=details)
    return best.recipe


def finalists_of(outcomes: Sequence[Outcome], most: int) -> list[Outcome]:
    """At most so many outcomes, the best first; of equal recipes only the first that was found.

    Args:
        outcomes: of the trials that reached their end, by number; at least one.
    """
    ranked = sorted(outcomes, key=lambda outcome: outcome.accuracy, reverse=True)
    first = {outcome.recipe: outcome for outcome in reversed(ranked)}
    return [outcome for outcome in ranked if first[outcome.recipe] is outcome][:most]


def winner_of(finalists: Sequence[Outcome], accuracies: Sequence[Sequence[float]]) -> tuple[Outcome, float]:
    """The finalist of the highest mean validation accuracy, the first of equal ones, and that mean.

    Args:
        accuracies: of the trainings of each finalist.
    """
    means = [mean(values) for values in accuracies]
    return finalists[means.index(max(means))], max(means)


def finalist_epochs(configuration: Configuration, finalists: int) -> int:
    """Epochs that so many finalists of a sweep are trained in all; one alone has won."""
    return finalists * configuration.final.seeds * configuration.final.epochs if finalists > 1 else 0


def _train_again(
    configuration: Configuration, sweep: Sweep, finalists: Sequence[Outcome], start: str, executor: Executor
) -> list[list[Result]]:
    """The trainings of each finalist, all beside each other."""
    seeds, trials = range(configuration.final.seeds), [outcome.trial for outcome in finalists]
    details = event("finalists", sweep=sweep, trials=trials, trainings=len(seeds))
    more = f"{counted(len(trials), 'finalist')}, each trained {counted(len(seeds), 'time')} more"
    log.info("%s: %s", sweep, more, extra=details)
    executor.discard(finalists_place(sweep), but=trials)  # of a sweep that has gone on since
    executor.run([_training(configuration, sweep, each, number, start) for number in seeds for each in finalists])
    return [[executor.result(f"{finalists_place(sweep, trial)}/seed-{number}") for number in seeds] for trial in trials]


def _training(configuration: Configuration, sweep: Sweep, finalist: Outcome, number: int, start: str) -> Stage:
    """The stage that is one training of a finalist."""

    def make(initial: Result | None, context: Context) -> Result:
        assert initial
        return stages.train_finalist(initial.network, context, finalist.recipe, number)

    name = f"{finalists_place(sweep, finalist.trial)}/seed-{number}"
    return Stage(name, configuration.final.epochs, make, start, recipe=finalist.recipe)
