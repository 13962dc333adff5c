"""The search as a Tune sweep: HyperOpt proposes hyperparameters, trials are chains, ASHA stops the weak."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune
from ray.tune import Tuner
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search.hyperopt import HyperOptSearch

from safs_ray.config import Configuration
from safs_ray.data import Dataset
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.chain import trial_name
from safs_ray.storage import Folder
from safs_ray.tune import space
from safs_ray.tune.callbacks import SearchProgress
from safs_ray.tune.halving import RungKeeper, SuccessiveHalving
from safs_ray.tune.progress import log, percent
from safs_ray.tune.tasks import Recipe
from safs_ray.tune.trainable import Trial

METRIC = "best_accuracy"
ENDED = (TuneTrial.TERMINATED, TuneTrial.ERROR)
SEARCH = "search"
WINNER = "winner.json"


class InterruptedSearchError(Exception):
    """The search was stopped by a signal before its end; all that was finished is saved."""


class FailedSearchError(Exception):
    """No trial reached its end."""


def search(configuration: Configuration, dataset: Dataset, network: Network, folder: Folder, board: str) -> Recipe:
    """The winner of the search: read when it was found before, else searched for from where the search was.

    Args:
        network: the pruned network, with its default activations.
        folder: of the run.
        board: name of the board actor.

    Raises:
        InterruptedSearchError: by SIGINT or SIGTERM.
        FailedSearchError: no trial reached its end.
    """
    if folder.exists(WINNER):
        return Recipe.from_json(folder.read_json(WINNER))
    trainable = tune.with_resources(
        tune.with_parameters(
            Trial,
            arrays=dataset.without_test().arrays(),
            network=network.to_arrays(),
            configuration=configuration.model_dump(mode="json"),
            board=board,
        ),
        {"cpu": configuration.tune.resources.cpu, "gpu": configuration.tune.resources.gpu},
    )
    path = str(folder / SEARCH)
    if Tuner.can_restore(path):
        tuner = Tuner.restore(path, trainable=trainable, restart_errored=True)
    else:
        tuner = _new_tuner(trainable, configuration, folder)
    grid = tuner.fit()
    trials: list[TuneTrial] = grid._experiment_analysis.trials
    if len(trials) < configuration.tune.trials or any(trial.status not in ENDED for trial in trials):
        raise InterruptedSearchError
    winner = _winner(trials, configuration)
    folder.write_json(WINNER, winner.as_json())
    return winner


def _new_tuner(trainable: Any, configuration: Configuration, folder: Folder) -> Tuner:
    section = configuration.tune
    halving = _halving(configuration) if section.scheduler == "asha" else None
    keepers = [RungKeeper(halving)] if halving else []
    batch_size = configuration.pruning.hyperparameters.batch_size

    def name(trial: TuneTrial) -> str:
        return trial_name(space.hyperparameters(trial.config[space.PROPOSAL], batch_size))

    tune_config = tune.TuneConfig(
        search_alg=_searcher(configuration),
        scheduler=halving,
        num_samples=section.trials,
        max_concurrent_trials=section.max_concurrent or _trials_that_fit(configuration),
        reuse_actors=True,
        trial_name_creator=name,
        trial_dirname_creator=name,
    )
    run_config = tune.RunConfig(
        name=SEARCH,
        storage_path=str(folder),
        failure_config=tune.FailureConfig(max_failures=3),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        callbacks=[SearchProgress(configuration), *keepers],
        verbose=0,
    )
    return Tuner(trainable, tune_config=tune_config, run_config=run_config)


def _halving(configuration: Configuration) -> SuccessiveHalving:
    section = configuration.tune
    return SuccessiveHalving(
        derive(configuration.run.seed, "halving"),
        time_attr="training_iteration",
        metric=METRIC,
        mode="max",
        max_t=configuration.iterations,
        grace_period=section.grace_period,
        reduction_factor=section.reduction_factor,
        brackets=section.brackets,
    )


def _searcher(configuration: Configuration) -> HyperOptSearch:
    """TPE, or random draws, whose first proposal is the default hyperparameters."""
    section = configuration.tune
    default = configuration.pruning.hyperparameters
    first = space.nearest(default, section.space)
    if first != default:
        log.info("the default hyperparameters lie outside tune.space; the first trial takes the nearest ones")
    # TPE begins with random draws, which is all that a random search makes.
    drawn = section.trials if section.searcher == "random" else max(3, section.trials // 4)
    return HyperOptSearch(
        space.build(section.space),
        metric=METRIC,
        mode="max",
        points_to_evaluate=[space.point(first, section.space)],
        n_initial_points=drawn,
        random_state_seed=derive(configuration.run.seed, "hyperopt") % 2**32,
    )


def _trials_that_fit(configuration: Configuration) -> int:
    """How many trials the cluster's resources hold at a time."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    need = configuration.tune.resources
    fit = have.get("CPU", 1) // need.cpu
    if need.gpu:
        fit = min(fit, have.get("GPU", 0) // need.gpu)
    return max(1, int(fit))


def _winner(trials: list[TuneTrial], configuration: Configuration) -> Recipe:
    """The trial of the highest validation accuracy among those that reached their end."""
    ended = [
        trial
        for trial in trials
        if trial.status == TuneTrial.TERMINATED
        and trial.last_result.get("training_iteration") == configuration.iterations
    ]
    if not ended:
        failed = [trial for trial in trials if trial.status == TuneTrial.ERROR]
        where = f"; see {failed[0].error_file}" if failed else ""
        raise FailedSearchError(f"none of {len(trials)} trials reached its end, {len(failed)} failed{where}")
    best = max(ended, key=lambda trial: float(trial.last_result[METRIC]))
    accuracy = percent(best.last_result[METRIC])
    log.info("search done: trial %s wins with validation %s", best, accuracy)
    batch_size = configuration.pruning.hyperparameters.batch_size
    return Recipe(
        tuple(best.last_result["assignment"].split(",")),
        space.hyperparameters(best.config[space.PROPOSAL], batch_size),
        learn_scales=True,
    )
