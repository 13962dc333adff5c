"""The searches of a run as Tune sweeps, whose trials are chains.

Every session of a sweep is a new one to Tune: what came before is in the sweep's journal and on the board. See
:mod:`safs_ray.tune.journal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune import Tuner
from ray.tune.experiment import Trial as TuneTrial

from safs_ray import stages
from safs_ray.config import Configuration, counted
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.report.wording import shown
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Course
from safs_ray.search.records import JOURNALS
from safs_ray.stages import Recipe
from safs_ray.storage import Folder
from safs_ray.tune.board import BoardClient
from safs_ray.tune.callbacks import SearchProgress
from safs_ray.tune.causes import FailedSearchError, passes, reason
from safs_ray.tune.halving import SuccessiveHalving
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.progress import event, log, percent
from safs_ray.tune.proposals import METRIC, TRIAL, Proposals, Propose, default_only, search_space
from safs_ray.tune.tasks import Run, finalist, run_tasks, train_finalist
from safs_ray.tune.trainable import Trial
from safs_ray.tune.warm_start import earlier_trials

ENDED = (TuneTrial.TERMINATED, TuneTrial.ERROR)
SEARCH = "search"
"""Tune's own folder of a run, with the events for TensorBoard."""
ERRORS = "error.txt"
"""Tune's file of a trial that failed, with the traceback of every time."""


def search(course: Course, network: Network, run: Run, arrays: Any, board: str) -> Recipe:
    """The winner of a sweep, which is begun, or gone on with from where its journal and the board say that it was.

    Args:
        course: what every trial does. HyperOpt proposes its hyperparameters and ASHA stops the weak; the trials of
            stage 1 are chains that all have the default hyperparameters.
        network: the pruned network as :func:`stages.searchable` makes it; the trials begin with its assignment.
        arrays: of the data without the test images, in Ray's object store.
        board: name of the board actor.

    Raises:
        KeyboardInterrupt: by SIGINT or SIGTERM.
        FailedSearchError: no trial reached its end.
    """
    configuration, folder = run.configuration, run.folder
    journal = Journal(folder / JOURNALS, course.sweep)
    past = Past(course, journal, BoardClient(board).evaluations())
    known = journal.winner
    if known and not past.lost:
        return known
    propose = _propose(course, configuration, folder)
    past.recover(lambda number: propose(number, ()), configuration.search.share == "best")
    trials = configuration.tune.trials if course.own_hyperparameters else configuration.search.chains
    left, failures = trials - len(past.done), list[Exception]()
    if left > 0:
        past.announce(trials)
        _forget(folder / SEARCH / _folder_name(course), past)
        trainable = _trainable(course, network, run, arrays, board)
        start = partial(_start, configuration, course, board)
        proposals = Proposals(past, trials, propose, start)
        failures = _fit(
            _tuner(trainable, proposals, configuration, folder, past, trials),
            left,
            folder / SEARCH / _folder_name(course),
        )
        run.checkpoints(course.sweep).clear()  # of trials that were stopped while they trained
        journal = Journal(folder / JOURNALS, course.sweep)  # Tune has written it by a copy of this one
        past = Past(course, journal, BoardClient(board).evaluations())
    winner = known or _winner(past, network, run, arrays, failures)
    journal.crown(winner)
    return winner


def _forget(folder: Folder, past: Past) -> None:
    """Remove what Tune wrote of trials that have to go on: they will write it again, from their first step."""
    done = {past.course.trial(number) for number in past.done}
    for trial in set(folder.folders()) - done:
        (folder / trial).delete()


def _folder_name(course: Course) -> str:
    return course.sweep.replace(" ", "-")


def _trainable(course: Course, network: Network, run: Run, arrays: Any, board: str) -> Any:
    configuration = run.configuration
    return tune.with_resources(
        tune.with_parameters(
            Trial,
            arrays=arrays,
            network=network.to_arrays(),
            configuration=configuration.model_dump(mode="json"),
            course=course,
            board=board,
            checkpoints=run.checkpoints(course.sweep),
        ),
        {"cpu": configuration.tune.resources.cpu, "gpu": configuration.tune.resources.gpu or 0},
    )


def _propose(course: Course, configuration: Configuration, folder: Folder) -> Propose:
    """Where the hyperparameters of the sweep's trials come from."""
    if not course.own_hyperparameters:
        return default_only(configuration)
    return search_space(configuration, earlier_trials(folder, course))


def _start(configuration: Configuration, course: Course, board: str) -> Assignment | None:
    """The assignment that a new chain takes from those before it, if any."""
    shared = configuration.search.share == "best" and course.evaluations > 0
    return BoardClient(board).best(course.sweep) if shared else None


def _tuner(
    trainable: Any, proposals: Proposals, configuration: Configuration, folder: Folder, past: Past, trials: int
) -> Tuner:
    """Tune's sweep of the trials that are left."""
    course, section = past.course, configuration.tune
    asha = course.own_hyperparameters and section.scheduler == "asha"
    tune_config = tune.TuneConfig(
        search_alg=proposals,
        scheduler=_halving(configuration, past) if asha else None,
        num_samples=trials - len(past.done),
        max_concurrent_trials=section.max_concurrent or _trials_that_fit(configuration),
        reuse_actors=True,
        trial_name_creator=_trial_name,
        trial_dirname_creator=_trial_name,
    )
    run_config = tune.RunConfig(
        name=_folder_name(course),
        storage_path=(folder / SEARCH).path,
        storage_filesystem=folder.filesystem if folder.root else None,
        failure_config=tune.FailureConfig(max_failures=3),
        # A number for each step. Tune makes a snapshot of the whole sweep whenever it is about to delete one.
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=20),
        callbacks=[SearchProgress(configuration, past, trials)],
        verbose=0,
    )
    return Tuner(trainable, tune_config=tune_config, run_config=run_config)


def _trial_name(trial: TuneTrial) -> str:
    return str(trial.config[TRIAL])


def _halving(configuration: Configuration, past: Past) -> SuccessiveHalving:
    """ASHA with what it knew; in a sweep of short trials with the grace period and the brackets that fit into them."""
    course = past.course
    section = configuration.tune
    grace = min(section.grace_period, course.steps)
    fitting = [count for count in range(section.brackets) if grace * section.reduction_factor**count <= course.steps]
    halving = SuccessiveHalving(
        derive(configuration.run.seed, "halving"),
        time_attr="training_iteration",
        metric=METRIC,
        mode="max",
        max_t=course.steps,
        grace_period=grace,
        reduction_factor=section.reduction_factor,
        brackets=len(fitting),
    )
    for number, entry in enumerate(past.journal.entries):
        if number in past.done:
            halving.remember(course.trial(number), past.accuracies(number))
        else:
            stopped = entry.ended in ("stopped", "diverged")
            halving.expect(course.trial(number), entry.steps or len(past.steps(number)), stopped)
    return halving


def _trials_that_fit(configuration: Configuration) -> int:
    """How many trials the cluster's resources hold at a time."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    need = configuration.tune.resources
    fit = have.get("CPU", 1) // need.cpu
    if need.gpu:
        fit = min(fit, have.get("GPU", 0) // need.gpu)
    return max(1, int(fit))


def _fit(tuner: Tuner, trials: int, folder: Folder) -> list[Exception]:
    """Run the trials that are left.

    Args:
        folder: Tune's own of this sweep.

    Returns:
        Why trials failed.

    Raises:
        KeyboardInterrupt: by SIGINT or SIGTERM; also where Tune, which SIGUSR1 stops, returns as if all were done.
    """
    ended = tuner.fit()
    ran: list[TuneTrial] = ended._experiment_analysis.trials
    if len(ran) < trials or any(trial.status not in ENDED for trial in ran):
        raise KeyboardInterrupt
    failures = [(trial, error) for index, trial in enumerate(ran) if (error := ended[index].error)]
    for trial, error in failures:
        place = shown(folder / str(trial) / ERRORS)
        log.warning("warning: %s failed and is left out (%s); its tracebacks are in %s", trial, reason(error), place)
    return [error for _, error in failures]


def _winner(past: Past, network: Network, run: Run, arrays: Any, failures: Sequence[Exception] = ()) -> Recipe:
    """What the best of the trials that reached their end has found; of several finalists the best when trained again.

    Args:
        network: what the trials started from.
        failures: why trials failed.

    Raises:
        FailedSearchError: no trial reached its end.
    """
    course, entries = past.course, past.journal.entries
    finished = [number for number in past.done if entries[number].ended == "finished"]
    if not finished:
        why = next((error for error in failures if passes(error)), failures[0]) if failures else None
        none = f"{course.sweep}: none of {counted(len(entries), 'trial')} reached its end"
        count = f"{none}; {len(entries) - len(past.done)} failed"
        raise FailedSearchError(f"{count} ({reason(why)})" if why else count) from why
    recipes = {
        number: Recipe(past.found(number), entries[number].hyperparameters, course.own_hyperparameters)
        for number in finished
    }
    accuracies = {number: entries[number].accuracy for number in finished}
    finalists = stages.finalists_of(run.configuration, recipes, accuracies)
    best, accuracy, how = finalists[0], accuracies[finalists[0]], ""
    if len(finalists) > 1:
        trained = _train_again(course, {number: recipes[number] for number in finalists}, network, run, arrays)
        best, accuracy = stages.winner_of(trained)
        trainings = counted(len(trained[best]), "training")
        how = f", the mean of {trainings} ({percent(accuracies[best]).strip()} in the search)"
    told = event("won", sweep=course.sweep, trial=course.trial(best), validation_accuracy=accuracy)
    log.info("%s: %s wins with validation %s%s", course.sweep, course.trial(best), percent(accuracy), how, extra=told)
    return recipes[best]


def _train_again(
    course: Course, recipes: Mapping[int, Recipe], network: Network, run: Run, arrays: Any
) -> dict[int, list[float]]:
    """The validation accuracies of the trainings of each finalist, all at once as far as they fit.

    Args:
        recipes: of the finalists, by the number of their trials, the best trial first.
    """
    names, seeds = {number: course.trial(number) for number in recipes}, range(run.configuration.final.seeds)
    told = event("finalists", sweep=course.sweep, trials=list(names.values()), trainings=len(seeds))
    more = f"{counted(len(names), 'finalist')}, each trained {counted(len(seeds), 'time')} more"
    log.info("%s: %s", course.sweep, more, extra=told)
    folder = run.folder / "networks" / "finalists" / course.sweep
    for trial in set(folder.folders()) - set(names.values()):
        (folder / trial).delete()  # of a sweep that has gone on since
    for number, recipe in recipes.items():
        run.made_with(recipe, f"finalists/{course.sweep}/{names[number]}")
    start = ray.put(network.to_arrays())
    tasks = [
        (train_finalist, (arrays, start, recipe, finalist(course.sweep, names[number], seed), seed))
        for seed in seeds
        for number, recipe in recipes.items()
    ]
    run_tasks(run, tasks, stages.finalist_epochs(run.configuration, len(recipes)))
    return {
        number: [run.result(finalist(course.sweep, trial, seed)).validation_accuracy for seed in seeds]
        for number, trial in names.items()
    }
