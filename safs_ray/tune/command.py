"""The command ``python -m safs_ray.tune``: from its words to a run and its exit code."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import traceback
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from safs_ray import config, stages
from safs_ray.config import CONFIGURATION, PAGE, RESULTS, Configuration, ConfigurationError, refusal
from safs_ray.data import Dataset, Splits
from safs_ray.display import telling
from safs_ray.experiment.forecasting import BEGIN
from safs_ray.experiment.progress import Clock
from safs_ray.log import event, log
from safs_ray.network import Network
from safs_ray.report import page, tensorboard
from safs_ray.report.record import Record
from safs_ray.report.table import show
from safs_ray.storage import DamagedError, Folder, blaming, shown
from safs_ray.training import Context
from safs_ray.tune.announcement import announce, forecast, measured
from safs_ray.tune.budgeting import in_budget, left_of
from safs_ray.tune.causes import reason
from safs_ray.tune.changes import note, pending, reopens
from safs_ray.tune.connection import connect, interrupt
from safs_ray.tune.ending import BAD_INPUT, FAILED, FAILURE, ending
from safs_ray.tune.invocation import Invocation, program, quoted, typed
from safs_ray.tune.modules import versions
from safs_ray.tune.running import run
from safs_ray.tune.spending import spending
from safs_ray.tune.warm_start import as_earlier, check_earlier, take_over

LOCK = ".lock"
"""File of a run folder that the process at the run holds."""

FINISHED = 0


def carry_out(invocation: Invocation) -> int:
    """Run or resume an experiment, or try it out; returns the exit code."""
    signal.signal(signal.SIGTERM, interrupt)
    if str(Path.cwd()) not in sys.path:  # where a user's own modules lie, and where Ray's workers look for them
        sys.path.append(str(Path.cwd()))
    folder = invocation.folder
    console = Console(highlight=False, markup=False)
    if invocation.dry_run:
        return _try_out(invocation, console)
    try:
        return _conclude(folder, _run(invocation, console), console)
    except (Exception, KeyboardInterrupt) as error:
        return _end(*ending(error, folder, typed(invocation.arguments)))


def _run(invocation: Invocation, console: Console) -> dict[str, Any]:
    """Do what is left of a run; returns its results."""
    configuration, folder = invocation.configuration, invocation.folder
    storage = configuration.run.storage
    with blaming("run.storage", storage), suppress(DamagedError, FileNotFoundError):
        if not (folder.exists(CONFIGURATION) and reopens(pending(configuration, folder))):
            finished: dict[str, Any] = folder.read_json(RESULTS)
            return finished
    configuration, dataset, splits, network, given = _checked(configuration, folder)
    configuration = _with_costs(configuration)
    epoch = measured(configuration, network, splits)
    configuration, told = in_budget(configuration, invocation, epoch)
    with blaming("run.storage", storage):
        lock = _lock(folder)
    with lock, telling(configuration.run, console):
        take_over(configuration, folder)
        with blaming("run.storage", storage):
            _write_down(configuration, dataset, folder)
            if given:
                given.save(_given_stage(configuration, folder))  # as if the stage had been done
        with spending(configuration, folder, invocation.began) as budget:
            seconds = forecast(configuration, epoch, folder)
            if configuration.run.verbose:
                told = told or left_of(budget)
                announce(configuration, splits, network, folder, sum(seconds.values()), told, console)
            return _on_ray(configuration, dataset, folder, Clock(seconds, budget))


def _on_ray(configuration: Configuration, dataset: Dataset, folder: Folder, clock: Clock) -> dict[str, Any]:
    """Do what is left of a run, on Ray."""
    log.info("starting Ray", extra=event("forecast", seconds=clock.seconds_left, parts=clock.parts))
    try:
        connect(configuration)
        clock.advance(BEGIN, clock.left(BEGIN))
        results = run(configuration, dataset, folder, clock)
        folder.remove(FAILURE)  # of a session before this one
        return results
    finally:
        ray.shutdown()


def _write_down(configuration: Configuration, dataset: Dataset, folder: Folder) -> None:
    """Write the configuration of a new run, or what one goes on with, and the names of its classes."""
    stages.write_classes(dataset.names, folder)
    if folder.exists(CONFIGURATION):
        note(configuration, folder)
    else:
        folder.write(CONFIGURATION, f"# {versions()}\n{config.dump(configuration)}".encode())


def _with_costs(configuration: Configuration) -> Configuration:
    """The configuration with this machine's costs, unless it has some: the run goes by them wherever it goes on."""
    section = configuration.run
    if section.costs or section.execution != "auto" or section.device == "cuda":
        return configuration
    from safs_ray.sparse.costs import of_this_machine  # here: numba takes half a second to import

    return configuration.model_copy(update={"run": section.model_copy(update={"costs": of_this_machine()})})


def _checked(
    configuration: Configuration, folder: Folder
) -> tuple[Configuration, Dataset, Splits, Network, stages.Result | None]:
    """What a run begins from: configuration, data, those of the search, network, and it as a stage where it was given.

    In the configuration of a new run stands what is found by trying the network on this machine.

    Raises:
        ConfigurationError: some of it cannot be read, or does not fit together.
    """
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    network = stages.check(configuration, dataset, splits)
    given = _given(configuration, network, splits, folder)
    if not folder.exists(CONFIGURATION):
        found = stages.choose_precision(stages.meet_latency(configuration, network), network, splits)
        configuration = as_earlier(configuration, found)
    check_earlier(configuration, folder)
    return configuration, dataset, splits, given.network if given else network, given


def _try_out(invocation: Invocation, console: Console) -> int:
    """Check everything, time an epoch and say what the run would cost."""
    configuration, folder = invocation.configuration, invocation.folder
    try:
        configuration, _, splits, network, _ = _checked(configuration, folder)
        epoch = measured(configuration, network, splits)
        configuration, told = in_budget(configuration, invocation, epoch)
        seconds = sum(forecast(configuration, epoch, folder).values())
        announce(configuration, splits, network, folder, seconds, told, console)
    except ConfigurationError as error:
        return _end(BAD_INPUT, f"error: {error}")
    except Exception as error:
        traceback.print_exc()
        return _end(FAILED, f"failed: {reason(error)}; nothing was begun")
    console.print("  nothing was begun: a dry run")
    return FINISHED


def _lock(folder: Folder) -> ExitStack:
    """Keep other processes out of a run on a local disk or NFS until this is left; a bucket knows no locks.

    Raises:
        ConfigurationError: another process is at it.
    """
    held = ExitStack()
    if folder.root:
        return held
    folder.make()
    # Not the folder itself: NFS locks between machines only files, and only those that are open for writing.
    file = os.open(f"{folder.path}/{LOCK}", os.O_RDWR | os.O_CREAT, 0o666)
    held.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise refusal("--resume", str(folder), "another process is at this run") from None
    return held


def _given(configuration: Configuration, network: Network, splits: Splits, folder: Folder) -> stages.Result | None:
    """The network of model.weights; a run that was begun has it in its folder and needs the file no more."""
    if configuration.model.weights:
        with suppress(DamagedError):
            if begun := stages.Result.load(_given_stage(configuration, folder)):
                return begun
    return stages.from_file(network.specification, Context(configuration, splits))


def _given_stage(configuration: Configuration, folder: Folder) -> Folder:
    return folder / "networks" / ("pruned" if configuration.model.pruned else "dense")


def _conclude(folder: Folder, results: dict[str, Any], console: Console) -> int:
    """Show the table of a finished run, and write its page if there is none yet."""
    python = program("python")
    console.print()
    show(results, console)
    console.print(
        f"\n  report         {_page(folder)}\n"
        f"  run folder     {folder}\n"
        f"  best network   {folder / 'networks' / 'best'}\n"
        f"  table again    {python} -m safs_ray.report {quoted(folder)}\n"
        f"  take it away   {python} -m safs_ray.export {quoted(folder)} --format safetensors\n"
        f"  TensorBoard    {program('tensorboard')} --logdir {quoted(folder)}",
        soft_wrap=True,
    )
    return FINISHED


def _page(folder: Folder) -> str:
    """Where the run's page is; of one that cannot be made, why: the run is finished all the same."""
    if not folder.exists(PAGE):
        try:
            record = Record.read(folder)
            drawn = page.figures(record)
            tensorboard.write(record, drawn)
            folder.write(PAGE, page.render(record, drawn, datetime.now()).encode())
        except (Exception, KeyboardInterrupt) as error:
            return f"not written ({type(error).__name__}: {error})".splitlines()[0]
    return shown(folder / PAGE)


def _end(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code
