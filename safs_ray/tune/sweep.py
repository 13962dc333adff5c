"""A whole run on Ray, from data to results.json. To begin a run and to resume one is the same call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.queue import Queue

from safs_ray import stages
from safs_ray.config import Configuration, counted
from safs_ray.data import Dataset
from safs_ray.network import Network
from safs_ray.report import results
from safs_ray.report.page import PAGE
from safs_ray.search.chain import Course, joint, stage_1, stage_2
from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import Recipe, Result
from safs_ray.storage import Folder
from safs_ray.tune.board import open_board
from safs_ray.tune.progress import event, log, tell
from safs_ray.tune.search import search
from safs_ray.tune.tasks import (
    CHECKPOINTS,
    FOUND,
    Run,
    final,
    finish,
    prepare,
    prune_found,
    run_tasks,
    start_of,
    test_dense,
)
from safs_ray.tune.warm_start import EARLIER


def sweep(configuration: Configuration, dataset: Dataset, folder: Folder) -> dict[str, Any]:
    """Do all that is left of a run on the Ray that is connected; returns the content of results.json.

    Raises:
        KeyboardInterrupt: by a signal; the run can be resumed.
        FailedSearchError: no trial reached its end.
    """
    start = time.monotonic()
    configuration = placed(configuration, ray.cluster_resources())  # type: ignore[no-untyped-call]
    plan = stages.plan(configuration)
    arrays, without_test = ray.put(dataset.arrays()), ray.put(dataset.without_test().arrays())
    run = Run(configuration, folder, Queue(actor_options={"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}))
    board_name = f"board of {folder}"
    board = open_board(board_name, str(folder / "evaluations"), str(folder / EARLIER / "evaluations"))
    for warning in ray.get(board.damage.remote()):
        log.warning(warning)

    if not configuration.model.pruned:
        log.info("%spruning and retraining", "" if configuration.model.weights else "dense training, ")
    run_tasks(run, [(prepare, (without_test,))], plan["dense training"] + stages.pruning_epochs(configuration))
    pruned = run.result("pruned").network
    tell(pruned.survey)

    def winner_of(course: Course, start: Network) -> Recipe:
        return search(course, stages.searchable(start, configuration), run, without_test, board_name)

    def pruned_with(recipe: Recipe) -> Network:
        if configuration.search.when != "before":
            return stages.searchable(pruned, configuration).assign(recipe.assignment)
        log.info("pruning and retraining with the assignment that was found")
        run.made_with(recipe, FOUND)
        run_tasks(run, [(prune_found, (without_test, recipe))], stages.pruning_epochs(configuration))
        found = run.result(FOUND).network
        tell(found.survey)
        return found

    first = run.result("dense").network if configuration.search.when == "before" else pruned
    recipes = _recipes(configuration, first, pruned, winner_of, pruned_with)

    finals = _evaluate(run, arrays, recipes, plan["final evaluation"])
    content = {
        **_found(run, recipes, finals, ray.get(board.evaluations.remote())),
        "wall_seconds": time.monotonic() - start,
        "finished": True,
    }
    folder.remove(PAGE)  # it is of the unfinished run, where somebody had it written
    folder.write_json(results.RESULTS, content)
    (folder / CHECKPOINTS).delete()
    log.info("finished", extra=event("finished", results=str(folder / results.RESULTS)))
    return content


def _evaluate(run: Run, arrays: Any, recipes: Mapping[str, Recipe], epochs: int) -> dict[str, list[Result]]:
    """The final evaluation of every row, on each fold.

    Args:
        arrays: of the data, in Ray's object store.
        epochs: how many it trains at most.
    """
    configuration = run.configuration
    folds = range(configuration.final.folds)
    told = event("final evaluation", folds=len(folds))
    log.info("final evaluation, %s", counted(len(folds), "fold"), extra=told)
    for row, recipe in recipes.items():
        run.made_with(recipe, f"final/{row}")
    finishes = [(finish, (arrays, row, recipe, fold)) for fold in folds for row, recipe in recipes.items()]
    dense = [] if configuration.model.pruned else [(test_dense, (arrays,))]  # nothing is known of one pruned elsewhere
    run_tasks(run, [*finishes, *dense], epochs)
    finals = {row: [run.result(final(row, fold)) for fold in folds] for row in recipes}
    if dense:
        finals["dense"] = [run.result(final("dense", 0))]
    return finals


def _found(
    run: Run, recipes: Mapping[str, Recipe], finals: Mapping[str, list[Result]], evaluations: Sequence[Evaluation]
) -> dict[str, Any]:
    """What the run has found, for results.json; keeps the best network."""
    best = results.best_of(finals["SAFS"])
    best.save(run.folder / "networks" / "best")
    if run.configuration.search.when == "during":
        tell(best.network.survey)
    starts = {row: run.result(start_of(run.configuration, row)) for row in recipes}
    finalists = results.finalists(run.folder)
    return {
        "rows": results.table(starts, finals, evaluations, finalists),
        "assignment": best.network.activations(),
        "groups": best.network.groups,
        "hyperparameters": recipes["SAFS"].hyperparameters.model_dump(),
        "search": results.search_cost(results.leading_to("SAFS", evaluations), finalists),
        "finalists": finalists,
    }


def placed(configuration: Configuration, have: Mapping[str, float]) -> Configuration:
    """The configuration with the GPUs of a trial decided, by what the cluster has."""
    resources = configuration.tune.resources
    if resources.gpu is None:
        wanted = {"cuda": True, "auto": bool(have.get("GPU")), "cpu": False}[configuration.run.device]
        gpu = 1.0 if wanted else 0.0
        resources = resources.model_copy(update={"gpu": gpu})
    return configuration.model_copy(update={"tune": configuration.tune.model_copy(update={"resources": resources})})


def _recipes(
    configuration: Configuration,
    first: Network,
    pruned: Network,
    winner_of: Callable[[Course, Network], Recipe],
    pruned_with: Callable[[Recipe], Network],
) -> dict[str, Recipe]:
    """How each sparse row of the table is trained, in the order of the table.

    Args:
        first: the network that the search begins from.
        winner_of: runs the sweep of a course from a network's assignment.
        pruned_with: the pruned network with the assignment that was found.
    """
    if configuration.search.protocol == "joint":
        winner = winner_of(joint(configuration), first)
        pruned_with(winner)
    else:
        found = winner_of(stage_1(configuration), first)
        winner = winner_of(stage_2(configuration, "SAFS"), pruned_with(found))
    default, ablations = configuration.pruning.hyperparameters, configuration.final.ablations
    own = stages.searchable(pruned, configuration).assignment
    recipes = {"pruned": Recipe(own, default, learn_scales=False)}
    if "stage 1" in ablations:
        recipes["stage 1"] = Recipe(winner.assignment, default, learn_scales=False)
    if "stage 2" in ablations:
        recipes["stage 2"] = winner_of(stage_2(configuration, "stage 2"), pruned)
    return {**recipes, "SAFS": winner}
