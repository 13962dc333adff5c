"""The experiment on one screen.

::

    dense ─ pruned ─┬─ search ─ fine-tuning ─ finalists ─┬─ final evaluation on folds ─ table
                    └─ the network's own operators ──────┘

With ``search.when`` before, the search goes on from the dense network, which is then pruned with the operators found;
with during, every training of the search and the last ones prune anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from safs_ray import stages
from safs_ray.config import AUTO, Configuration, counted
from safs_ray.data import Folds
from safs_ray.experiment.finalists import Default, winner
from safs_ray.experiment.missing import budget_of
from safs_ray.experiment.planning import dense_epochs, pruning_epochs
from safs_ray.experiment.pruners import Tried, choose_pruner
from safs_ray.experiment.results import Finalists, best_of, results
from safs_ray.experiment.rows import Row, rows_of, start_of
from safs_ray.experiment.stage import BEST, DENSE, PRUNED, PRUNED_AGAIN, Executor, Stage, final
from safs_ray.log import event, log, percent
from safs_ray.models import Specification
from safs_ray.pruning.flow import Survey
from safs_ray.search.course import Course, Sweep, joint, operators_only, scales_only
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context


def run(configuration: Configuration, specification: Specification, executor: Executor) -> dict[str, Any]:
    """Do all that is left of an experiment; returns the content of results.json.

    Raises:
        FailedSearchError: no trial of a sweep reached its end.
    """
    began = time.monotonic()
    tried = _prune(configuration, specification, executor)
    recipes, finalists = _search(configuration, executor)
    finals = _evaluate(configuration, recipes, executor)
    last = rows_of(configuration)[-1]
    best = best_of(finals[last])
    executor.keep(BEST, best)
    if configuration.search.when == "during":
        log_survey(best.network.survey)
    starts = {row: executor.result(start_of(configuration, row)) for row in recipes if row in finals}
    table = results(best, recipes[last], starts, finals, executor.evaluations(), finalists, tried)
    took = {"wall_seconds": time.monotonic() - began, "budget": budget_of(configuration, executor)}
    return {**table, "metric": configuration.measure, **took, "finished": True}


def _prune(configuration: Configuration, specification: Specification, executor: Executor) -> Tried:
    """Train the dense network, prune it and retrain it, unless the experiment begins with either."""
    tried = Tried()
    if not configuration.model.pruned:
        log.info("%spruning and retraining", "" if configuration.model.weights else "dense training, ")
        dense = Stage(DENSE, dense_epochs(configuration), lambda _, context: stages.train_dense(specification, context))
        executor.run([dense])
        if configuration.training.distillation.share:
            executor.teach(DENSE)
            reached = percent(executor.result(DENSE).validation_accuracy).strip()
            log.info("the dense network, with validation %s, teaches the sparse ones", reached)
        if configuration.pruning.recipe == AUTO:
            tried = choose_pruner(configuration, executor)
        else:
            executor.run([_pruning(configuration, PRUNED, None)])
    log_survey(executor.result(PRUNED).network.survey)
    return tried


def _search(configuration: Configuration, executor: Executor) -> tuple[dict[Row, Recipe], Finalists]:
    """How each sparse row of the table is trained, in the order of the table; and how the finalists did."""
    finalists: Finalists = {}
    hyperparameters, ablations = configuration.pruning.hyperparameters, configuration.final.ablations
    own = stages.searchable(executor.result(PRUNED).network, configuration).assignment
    default = Recipe(own, hyperparameters, learn_scales=False)
    if not configuration.search.steps:
        return {Row.PRUNED: default}, finalists
    begun = DENSE if configuration.search.when == "before" else PRUNED

    def best(course: Course, start: str, recipe: Recipe | None = None) -> Recipe:
        beside = Default(default, begun if start == begun else PRUNED)
        return winner(configuration, course, start, recipe, beside, executor, finalists)

    if configuration.search.protocol == "joint":
        safs = best(joint(configuration), begun)
        _prune_again(configuration, safs, executor)
    else:
        operators = best(operators_only(configuration), begun)
        _prune_again(configuration, operators, executor)
        safs = best(scales_only(configuration, Sweep.SAFS), start_of(configuration, Row.SAFS), operators)
    recipes = {Row.PRUNED: default}
    if Row.OPERATORS in ablations:
        recipes[Row.OPERATORS] = Recipe(safs.assignment, hyperparameters, learn_scales=False)
    if Row.SCALES in ablations:
        recipes[Row.SCALES] = best(scales_only(configuration, Sweep.SCALES), PRUNED)
    return {**recipes, Row.SAFS: safs}, finalists


def _prune_again(configuration: Configuration, recipe: Recipe, executor: Executor) -> None:
    """With ``search.when`` before, prune the dense network with the operators that were found on it."""
    if configuration.search.when == "before":
        log.info("pruning and retraining with the assignment that was found")
        [pruned] = executor.run([_pruning(configuration, PRUNED_AGAIN, recipe)])
        log_survey(pruned.network.survey)


def _pruning(configuration: Configuration, name: str, recipe: Recipe | None) -> Stage:
    """The stage that prunes the dense network, with its own operators or those of a recipe."""

    def make(dense: Result | None, context: Context) -> Result:
        assert dense
        network = dense.network
        if recipe:
            network = stages.searchable(network, context.configuration).assign(recipe.assignment)
        return stages.prune(network, context)

    return Stage(name, pruning_epochs(configuration), make, DENSE, recipe=recipe)


def _evaluate(
    configuration: Configuration, recipes: Mapping[Row, Recipe], executor: Executor
) -> dict[Row, list[Result]]:
    """The final evaluation of every row, on each fold; the test images are read here alone.

    A budget that ends leaves out all but the rows that any table has, on the first fold.
    """
    folds = range(configuration.final.folds)
    details = event("final evaluation", folds=len(folds))
    log.info("final evaluation, %s", counted(len(folds), "fold"), extra=details)
    default = recipes[Row.PRUNED]
    alike = [row for row, recipe in recipes.items() if recipe == default and row is not Row.PRUNED]
    last = [_last(configuration, row, recipes[row], fold) for fold in folds for row in recipes if row not in alike]
    dense = Stage(final(Row.DENSE, 0), 0, _test, DENSE, tests=True)
    executor.run([*last, *([] if configuration.model.pruned else [dense])])  # nothing is known of one pruned elsewhere
    executor.run(
        [_same(row, default, fold) for fold in folds for row in alike if executor.has(final(Row.PRUNED, fold))]
    )
    rows = [row for row in recipes if executor.has(final(row, 0))]
    whole = [fold for fold in folds if all(executor.has(final(row, fold)) for row in rows)]
    finals = {row: [executor.result(final(row, fold)) for fold in whole] for row in rows}
    if not configuration.model.pruned:
        finals[Row.DENSE] = [executor.result(dense.name)]
    return finals


def _last(configuration: Configuration, row: Row, recipe: Recipe, fold: int) -> Stage:
    """The stage that is a row of the table on a fold."""

    def make(start: Result | None, context: Context) -> Result:
        assert start
        return stages.finish(start.network, context, recipe, fold)

    start, epochs, images = start_of(configuration, row), configuration.final.epochs, partial(Folds.final, fold=fold)
    expendable = fold > 0 or row in configuration.final.ablations
    return Stage(final(row, fold), epochs, make, start, images, tests=True, recipe=recipe, expendable=expendable)


def _same(row: Row, default: Recipe, fold: int) -> Stage:
    """The stage that is a row of the table on a fold, where the search has found nothing better than the default."""

    def make(pruned: Result | None, _: Context) -> Result:
        assert pruned
        return pruned

    return Stage(final(row, fold), 0, make, final(Row.PRUNED, fold), recipe=default)


def _test(dense: Result | None, context: Context) -> Result:
    assert dense
    return stages.test(dense, context)


def log_survey(survey: Survey) -> None:
    """Say what pruning has left, and warn of layers of which that is nothing."""
    log.info("%s", survey.summary, extra=event("pruned"))
    if survey.warning:
        log.warning("warning: %s", survey.warning)
