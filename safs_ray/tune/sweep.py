"""A whole run on Ray, from data to results.json. To begin a run and to resume one is the same call."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util.queue import Queue

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.report import results
from safs_ray.storage import Folder
from safs_ray.tune.board import open_board
from safs_ray.tune.progress import log, percent
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

    if not configuration.model.pruned:
        log.info("%spruning and retraining", "" if configuration.model.weights else "dense training, ")
    run_tasks(run, [(prepare, (arrays,))], plan["dense training"] + plan["pruning"])

    pruned = run.result("pruned")
    log.info(
        "search: %d trials of at most %d steps, from validation %s",
        configuration.tune.trials, configuration.iterations, percent(pruned.validation_accuracy).strip(),
    )  # fmt: skip
    winner = search(configuration, dataset, pruned.network, folder, board_name)

    folds = range(configuration.final.folds)
    log.info("final evaluation, %d folds", len(folds))
    rows = {"pruned": Recipe(None, configuration.pruning.hyperparameters, learn_scales=False), "SAFS": winner}
    finishes = [(finish, (arrays, row, recipe, fold)) for fold in folds for row, recipe in rows.items()]
    dense = [] if configuration.model.pruned else [(test_dense, (arrays,))]  # nothing is known of one pruned elsewhere
    run_tasks(run, [*finishes, *dense], plan["final evaluation"])

    evaluations = ray.get(board.evaluations.remote())
    finals = {row: [run.result(final(row, fold)) for fold in folds] for row in rows}
    if dense:
        finals["dense"] = [run.result(final("dense", 0))]
    best = results.best_of(finals["SAFS"])
    best.save(folder / "networks" / "best")
    content = {
        "rows": results.table(pruned, finals, evaluations),
        "assignment": best.network.activations(),
        "hyperparameters": winner.hyperparameters.model_dump(),
        "search": results.search_cost(evaluations),
        "wall_seconds": time.monotonic() - start,
        "finished": True,
    }
    folder.write_json(results.RESULTS, content)
    return content
