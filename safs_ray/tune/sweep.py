"""A whole run on Ray, from data to results.json. To begin a run and to resume one is the same call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.queue import Queue

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.network import Network
from safs_ray.report import results
from safs_ray.search.chain import Course, joint, stage_1, stage_2
from safs_ray.storage import Folder
from safs_ray.tune.board import open_board
from safs_ray.tune.progress import log
from safs_ray.tune.search import search
from safs_ray.tune.tasks import Recipe, Run, final, finish, prepare, run_tasks, test_dense


def sweep(configuration: Configuration, dataset: Dataset, folder: Folder) -> dict[str, Any]:
    """Do all that is left of a run on the Ray that is connected; returns the content of results.json.

    Raises:
        InterruptedSearchError: by a signal during the search; the run can be resumed.
        FailedSearchError: no trial reached its end.
    """
    start = time.monotonic()
    plan = stages.plan(configuration)
    arrays = ray.put(dataset.arrays())
    run = Run(configuration, folder, Queue(actor_options={"num_cpus": 0}))
    board_name = f"board of {folder}"
    board = open_board(board_name, str(folder / "evaluations"))

    log.info("dense training, pruning and retraining")
    run_tasks(run, [(prepare, (arrays,))], plan["dense training"] + plan["pruning"])
    network = stages.searchable(run.result("pruned").network, configuration)

    def winner_of(course: Course, start: Network) -> Recipe:
        return search(course, start, configuration, dataset, folder, board_name)

    recipes = _recipes(configuration, network, winner_of)

    folds = range(configuration.final.folds)
    log.info("final evaluation, %d folds", len(folds))
    finishes = [(finish, (arrays, row, recipe, fold)) for fold in folds for row, recipe in recipes.items()]
    run_tasks(run, [*finishes, (test_dense, (arrays,))], plan["final evaluation"])

    evaluations = ray.get(board.evaluations.remote())
    finals = {row: [run.result(final(row, fold)) for fold in folds] for row in recipes}
    best = results.best_of(finals["SAFS"])
    best.save(folder / "networks" / "best")
    content = {
        "rows": results.table(run.result("pruned"), {"dense": [run.result(final("dense", 0))], **finals}, evaluations),
        "assignment": best.network.activations(),
        "groups": best.network.groups,
        "hyperparameters": recipes["SAFS"].hyperparameters.model_dump(),
        "search": results.search_cost(results.leading_to("SAFS", evaluations)),
        "wall_seconds": time.monotonic() - start,
        "finished": True,
    }
    folder.write_json(results.RESULTS, content)
    return content


def _recipes(
    configuration: Configuration, network: Network, winner_of: Callable[[Course, Network], Recipe]
) -> dict[str, Recipe]:
    """How each sparse row of the table is trained, in the order of the table.

    Args:
        network: the pruned network, with its default activations.
        winner_of: runs the sweep of a course from a network's assignment.
    """
    if configuration.search.protocol == "joint":
        winner = winner_of(joint(configuration), network)
    else:
        found = winner_of(stage_1(configuration), network)
        winner = winner_of(stage_2(configuration, "SAFS"), network.assign(found.assignment))
    default, ablations = configuration.pruning.hyperparameters, configuration.final.ablations
    recipes = {"pruned": Recipe(network.assignment, default, learn_scales=False)}
    if "stage 1" in ablations:
        recipes["stage 1"] = Recipe(winner.assignment, default, learn_scales=False)
    if "stage 2" in ablations:
        recipes["stage 2"] = winner_of(stage_2(configuration, "stage 2"), network)
    return {**recipes, "SAFS": winner}
