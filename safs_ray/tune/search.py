"""The searches of a run as Tune sweeps, whose trials are chains."""

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
from safs_ray.search.chain import Course
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
WINNERS = "winners"


class InterruptedSearchError(Exception):
    """The search was stopped by a signal before its end; all that was finished is saved."""


class FailedSearchError(Exception):
    """No trial reached its end."""


def search(
    course: Course, network: Network, configuration: Configuration, dataset: Dataset, folder: Folder, board: str
) -> Recipe:
    """The winner of a sweep: read when it was found before, else searched for from where the sweep was.

    Args:
        course: what every trial does. HyperOpt proposes its hyperparameters and ASHA stops the weak; the trials of
            stage 1 are chains that all have the default hyperparameters.
        network: the pruned network as :func:`stages.searchable` makes it; the trials begin with its assignment.
        folder: of the run.
        board: name of the board actor.

    Raises:
        InterruptedSearchError: by SIGINT or SIGTERM.
        FailedSearchError: no trial reached its end.
    """
    winners, file = folder / WINNERS, f"{_folder_name(course)}.json"
    if winners.exists(file):
        return Recipe.from_json(winners.read_json(file))
    trainable = tune.with_resources(
        tune.with_parameters(
            Trial,
            arrays=dataset.without_test().arrays(),
            network=network.to_arrays(),
            configuration=configuration.model_dump(mode="json"),
            course=course,
            board=board,
        ),
        {"cpu": configuration.tune.resources.cpu, "gpu": configuration.tune.resources.gpu},
    )
    trials = configuration.tune.trials if course.own_hyperparameters else configuration.search.chains
    log.info("%s: %d trials of at most %d steps", course.sweep, trials, course.steps)
    path = folder / SEARCH / _folder_name(course)
    if Tuner.can_restore(str(path)):
        tuner = Tuner.restore(str(path), trainable=trainable, restart_errored=True)
    else:
        tuner = _new_tuner(trainable, configuration, course, trials, folder)
    grid = tuner.fit()
    ran: list[TuneTrial] = grid._experiment_analysis.trials
    if len(ran) < trials or any(trial.status not in ENDED for trial in ran):
        raise InterruptedSearchError
    winner = _winner(ran, configuration, course)
    winners.write_json(file, winner.as_json())
    return winner


def _folder_name(course: Course) -> str:
    return course.sweep.replace(" ", "-")


def _new_tuner(trainable: Any, configuration: Configuration, course: Course, trials: int, folder: Folder) -> Tuner:
    section, default = configuration.tune, configuration.pruning.hyperparameters
    callbacks: list[tune.Callback] = [SearchProgress(configuration, course, trials)]
    searcher, halving, grid = None, None, None
    if course.own_hyperparameters:
        searcher = _searcher(configuration)
    else:
        grid = {space.CHAIN: tune.grid_search(list(range(trials)))}
    if searcher and section.scheduler == "asha":
        halving = _halving(configuration, course)
        callbacks.append(RungKeeper(halving))

    def name(trial: TuneTrial) -> str:
        return space.trial_name(trial.config, default)

    tune_config = tune.TuneConfig(
        search_alg=searcher,
        scheduler=halving,
        num_samples=trials if searcher else 1,
        max_concurrent_trials=section.max_concurrent or _trials_that_fit(configuration),
        reuse_actors=True,
        trial_name_creator=name,
        trial_dirname_creator=name,
    )
    run_config = tune.RunConfig(
        name=_folder_name(course),
        storage_path=str(folder / SEARCH),
        failure_config=tune.FailureConfig(max_failures=3),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        callbacks=callbacks,
        verbose=0,
    )
    return Tuner(trainable, param_space=grid, tune_config=tune_config, run_config=run_config)


def _halving(configuration: Configuration, course: Course) -> SuccessiveHalving:
    """ASHA; in a sweep of short trials with the grace period and the brackets that fit into them."""
    section = configuration.tune
    grace = min(section.grace_period, course.steps)
    fitting = [count for count in range(section.brackets) if grace * section.reduction_factor**count <= course.steps]
    return SuccessiveHalving(
        derive(configuration.run.seed, "halving"),
        time_attr="training_iteration",
        metric=METRIC,
        mode="max",
        max_t=course.steps,
        grace_period=grace,
        reduction_factor=section.reduction_factor,
        brackets=len(fitting),
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


def _winner(trials: list[TuneTrial], configuration: Configuration, course: Course) -> Recipe:
    """The trial of the highest validation accuracy among those that reached their end."""
    ended = [
        trial
        for trial in trials
        if trial.status == TuneTrial.TERMINATED and trial.last_result.get("training_iteration") == course.steps
    ]
    if not ended:
        failed = [trial for trial in trials if trial.status == TuneTrial.ERROR]
        where = f"; see {failed[0].error_file}" if failed else ""
        raise FailedSearchError(
            f"{course.sweep}: none of {len(trials)} trials reached its end, {len(failed)} failed{where}"
        )
    best = max(ended, key=lambda trial: float(trial.last_result[METRIC]))
    accuracy = percent(best.last_result[METRIC])
    log.info("%s: trial %s wins with validation %s", course.sweep, best, accuracy)
    return Recipe(
        tuple(best.last_result["best_assignment"].split(",")),
        space.hyperparameters(best.config, configuration.pruning.hyperparameters),
        learn_scales=course.own_hyperparameters,
    )
