"""The searches of a run as Tune sweeps, whose trials are chains.

Every session of a sweep is a new one to Tune: what came before is in the sweep's journal and on the board. See
:mod:`safs_ray.tune.journal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune import Tuner
from ray.tune.experiment import Trial as TuneTrial

from safs_ray.config import Configuration, counted
from safs_ray.experiment import FailedSearchError, Outcome
from safs_ray.experiment.progress import Clock, SweepProgress
from safs_ray.log import log
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course
from safs_ray.search.hyperparameters import Propose, default_only, search_space
from safs_ray.search.recipe import Recipe
from safs_ray.search.records import JOURNALS
from safs_ray.storage import Folder, shown
from safs_ray.tune.board import BoardClient
from safs_ray.tune.callbacks import IdleWorkers, Progress
from safs_ray.tune.causes import passes, reason
from safs_ray.tune.halving import SuccessiveHalving
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.proposals import METRIC, TRIAL, Proposals
from safs_ray.tune.tasks import Run
from safs_ray.tune.trainable import FOLLOWED, Trial
from safs_ray.tune.warm_start import earlier_trials

ENDED = (TuneTrial.TERMINATED, TuneTrial.ERROR)
SEARCH = "search"
"""Tune's own folder of a run, with the events for TensorBoard."""
ERRORS = "error.txt"
"""Tune's file of a trial that failed, with the traceback of every time."""


def run_sweep(
    course: Course, network: Network, run: Run, arrays: Any, board: str, clock: Clock, fill: Callable[[int], None]
) -> list[Outcome]:
    """What the trials of a sweep have found that reached their end, by number.

    The sweep is begun, or gone on with from where its journal and the board say that it was.

    Args:
        course: what every trial does. HyperOpt proposes its hyperparameters and ASHA stops the weak; the trials of
            stage 1 are chains that all have the default hyperparameters.
        network: the pruned network as :func:`stages.searchable` makes it; the trials begin with its assignment.
        arrays: of the data without the test images, in Ray's object store.
        board: name of the board actor.
        clock: is told what is done.
        fill: has other work done by as many workers as the last trials leave idle.

    Raises:
        KeyboardInterrupt: by SIGINT or SIGTERM.
        FailedSearchError: no trial reached its end.
    """
    configuration, folder = run.configuration, run.folder
    past = Past(course, Journal(folder / JOURNALS, course.sweep), BoardClient(board).evaluations())
    propose = _propose(course, configuration, folder)
    past.recover(lambda number: propose(number, ()), configuration.search.share == "best")
    trials = configuration.tune.trials if course.searches_hyperparameters else configuration.search.chains
    left, failures = trials - len(past.complete), list[Exception]()

    def budget_ended() -> bool:  # a function, of which Tune makes no copy, so that it asks the one clock there is
        return clock.leaves_out(course.sweep)

    if left > 0 and budget_ended():
        past = past.cut()
    elif left > 0:
        past.announce(trials)
        _forget(folder / SEARCH / _folder_name(course), past)
        asha = course.searches_hyperparameters and configuration.tune.scheduler == "asha"
        halving = _halving(configuration, past) if asha else None
        trainable = _trainable(course, network, run, arrays, board, halving.decisions if halving else ())
        start = partial(_start, configuration, course, board)
        proposals = Proposals(past, trials, propose, start, budget_ended)
        best = max((past.journal.entries[number].accuracy for number in past.complete), default=-math.inf)
        told = {course.trial(number): len(past.steps(number)) for number in past.unfinished}
        progress = SweepProgress(configuration, course, trials, clock, len(past.complete), best, told)
        tuner = _tuner(trainable, proposals, halving, run, past, trials, progress, budget_ended, fill)
        failures = _fit(tuner, left, folder / SEARCH / _folder_name(course), budget_ended)
        run.checkpoints(course.sweep).clear()  # of trials that were stopped while they trained
        journal = Journal(folder / JOURNALS, course.sweep)  # Tune has written it by a copy of this one
        past = Past(course, journal, BoardClient(board).evaluations())
    clock.expect(course.sweep, 0)
    return _outcomes(past, failures, course.sweep in clock.budget.left_out)


def _forget(folder: Folder, past: Past) -> None:
    """Remove what Tune wrote of trials that have to go on: they will write it again, from their first step."""
    done = {past.course.trial(number) for number in past.complete}
    for trial in set(folder.folders()) - done:
        (folder / trial).delete()


def _folder_name(course: Course) -> str:
    return course.sweep.replace(" ", "-")


def _trainable(course: Course, network: Network, run: Run, arrays: Any, board: str, decisions: Collection[int]) -> Any:
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
            decisions=decisions,
        ),
        {"cpu": configuration.tune.resources.cpu, "gpu": configuration.tune.resources.gpu or 0},
    )


def _propose(course: Course, configuration: Configuration, folder: Folder) -> Propose:
    """Where the hyperparameters of the sweep's trials come from."""
    if not course.searches_hyperparameters:
        return default_only(configuration)
    return search_space(configuration, earlier_trials(folder, course))


def _start(configuration: Configuration, course: Course, board: str) -> Assignment | None:
    """The assignment that a new chain takes from those before it, if any."""
    shared = configuration.search.share == "best" and course.evaluations > 0
    return BoardClient(board).best(course.sweep) if shared else None


def _tuner(
    trainable: Any,
    proposals: Proposals,
    halving: SuccessiveHalving | None,
    run: Run,
    past: Past,
    trials: int,
    progress: SweepProgress,
    budget_ended: Callable[[], bool],
    fill: Callable[[int], None],
) -> Tuner:
    """Tune's sweep of the trials that are left; when the budget has ended, each ends with the step that it is at."""
    course, configuration, folder = past.course, run.configuration, run.folder
    left, workers = trials - len(past.complete), _trials_at_a_time(configuration)
    tune_config = tune.TuneConfig(
        search_alg=proposals,
        scheduler=halving,
        num_samples=left,
        max_concurrent_trials=workers,
        reuse_actors=True,
        trial_name_creator=_trial_name,
        trial_dirname_creator=_trial_name,
    )
    run_config = tune.RunConfig(
        name=_folder_name(course),
        storage_path=(folder / SEARCH).path,
        storage_filesystem=folder.filesystem if folder.root else None,
        failure_config=tune.FailureConfig(max_failures=3),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # where a trial is says the board
        callbacks=[Progress(progress, course.steps, budget_ended), IdleWorkers(left, workers, fill)],
        stop=lambda _, result: (
            FOLLOWED not in result and result["training_iteration"] < course.steps and budget_ended()
        ),
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
        if number in past.complete:
            halving.remember(course.trial(number), past.accuracies(number))
        else:
            stopped = entry.ended in ("stopped", "diverged")
            halving.expect(course.trial(number), entry.steps or len(past.steps(number)), stopped)
    return halving


def _trials_at_a_time(configuration: Configuration) -> int:
    """No more than fit on this machine, for Tune proposes as many at once; a cluster may grow."""
    asked, fitting = configuration.tune.max_concurrent, _trials_that_fit(configuration)
    if not asked:
        return fitting
    return min(asked, fitting) if configuration.run.address == "local" else asked


def _trials_that_fit(configuration: Configuration) -> int:
    """How many trials the cluster's resources hold at a time."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    need = configuration.tune.resources
    fit = have.get("CPU", 1) / need.cpu
    if need.gpu:
        fit = min(fit, have.get("GPU", 0) / need.gpu)
    return max(1, int(fit + 1e-9))  # five shares of 0.2 are one


def _fit(tuner: Tuner, trials: int, folder: Folder, budget_ended: Callable[[], bool]) -> list[Exception]:
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
    if (len(ran) < trials and not budget_ended()) or any(trial.status not in ENDED for trial in ran):
        raise KeyboardInterrupt
    failures = [(trial, error) for index, trial in enumerate(ran) if (error := ended[index].error)]
    for trial, error in failures:
        place = shown(folder / str(trial) / ERRORS)
        log.warning("warning: %s failed and is left out (%s); its tracebacks are in %s", trial, reason(error), place)
    return [error for _, error in failures]


def _outcomes(past: Past, failures: Sequence[Exception], budget_ended: bool = False) -> list[Outcome]:
    """What the trials that reached their end, or that of the budget, have found.

    Args:
        failures: why trials failed.

    Raises:
        FailedSearchError: no trial reached its end.
    """
    course, entries = past.course, past.journal.entries
    finished = [number for number in past.complete if entries[number].ended in ("finished", "cut")]
    if not finished and not budget_ended:
        why = next((error for error in failures if passes(error)), failures[0]) if failures else None
        none = f"{course.sweep}: none of {counted(len(entries), 'trial')} reached its end"
        count = f"{none}; {len(entries) - len(past.complete)} failed"
        raise FailedSearchError(f"{count} ({reason(why)})" if why else count) from why
    return [_outcome(past, number) for number in finished]


def _outcome(past: Past, number: int) -> Outcome:
    course, entry = past.course, past.journal.entries[number]
    recipe = Recipe(past.best_assignment(number), entry.hyperparameters, course.searches_hyperparameters)
    return Outcome(course.trial(number), recipe, entry.accuracy)
