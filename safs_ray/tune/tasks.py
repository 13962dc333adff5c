"""Stages as Ray tasks. What a stage made is kept in the run folder and never made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.queue import Empty, Queue

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration
from safs_ray.data import Array, Dataset
from safs_ray.network import Frozen, Network
from safs_ray.stages import Recipe, Result
from safs_ray.storage import DamagedError, Folder
from safs_ray.training import Report
from safs_ray.tune.progress import StageProgress, log

News = tuple[str, int, int, float] | tuple[str, int] | str
"""Stage, epochs done, epochs, validation accuracy; or a stage that was made before and its epochs; or a warning, in one
line."""

Make = Callable[[Report, Checkpoints], Result]
"""Makes what a stage is for: tells its epochs, and keeps the states of its training."""


@dataclass(frozen=True)
class Run:
    """What every task of a run is given, beside the data.

    Attributes:
        news: takes :data:`News` after every epoch.
    """

    configuration: Configuration
    folder: Folder
    news: Queue

    def checkpoints(self, part: str) -> Checkpoints:
        """Of the trainings that are under way in a stage or a sweep, which deletes these, and no others, at its end."""
        return Checkpoints(self.folder / CHECKPOINTS / part, self.configuration.run.checkpoint_seconds)

    def result(self, stage: str) -> Result:
        """What a stage that is complete made.

        Raises:
            FileNotFoundError: the stage is not complete.
        """
        found = Result.load(self.folder / "networks" / stage)
        if found is None:
            raise FileNotFoundError(f"{self.folder}/networks/{stage} holds no complete stage")
        return found

    def kept(self, stage: str) -> Result | None:
        """What a stage has made before; None when it has not, or when its files are damaged, which are deleted."""
        folder = self.folder / "networks" / stage
        try:
            return Result.load(folder)
        except DamagedError as error:
            self._tell(f"warning: {error}; it is made again")
            for name in set(folder.names()) - {RECIPE}:
                folder.remove(name)
            return None

    def made_with(self, recipe: Recipe, stages: str) -> None:
        """Delete what stages have made with another recipe, before a sweep that went on found this one."""
        folder = self.folder / "networks" / stages
        before = None
        with suppress(FileNotFoundError, DamagedError):
            before = Recipe.from_json(folder.read_json(RECIPE))
        if before != recipe:
            folder.delete()
            folder.write_json(RECIPE, recipe.as_json())

    def once(self, stage: str, epochs: int, make: Make) -> Result:
        """A stage's result, from the run folder where it was completed before."""
        if done := self.kept(stage):
            self._tell((stage, epochs))
        else:
            checkpoints = self.checkpoints(stage)
            done = make(lambda epoch, accuracy: self._tell((stage, epoch, epochs, accuracy)), checkpoints)
            done.save(self.folder / "networks" / stage)
            checkpoints.clear()
        with suppress(RayActorError):
            self.news.size()  # waits until all is there that was told
        return done

    def _tell(self, news: News) -> None:
        """Let the driver know; where the queue is lost with its node, training goes on without.

        Not by ``put``, which waits for an answer: while a task waits, Ray gives its cores to the next one.
        """
        self.news.actor.put_nowait.remote(news)  # type: ignore[attr-defined]


CHECKPOINTS = "checkpoints"
"""Folder of a run, with one for each stage and sweep that is under way."""

RECIPE = "recipe.json"
"""File of a folder of networks: the recipe that they were made with."""


FOUND = "pruned-found"
"""The stage that prunes with the assignment that was found before pruning."""


def start_of(configuration: Configuration, row: str) -> str:
    """The stage whose network the last training of a row begins from."""
    return FOUND if configuration.search.when == "before" and row in ("stage 1", "SAFS") else "pruned"


def final(row: str, fold: int) -> str:
    """The stage that makes a row of the table on a fold."""
    return f"final/{row}/fold-{fold}"


def finalist(sweep: str, trial: str, number: int) -> str:
    """The stage that is one training of a finalist."""
    return f"finalists/{sweep}/{trial}/seed-{number}"


def prepare(run: Run, arrays: dict[str, Array]) -> None:
    """Ray task: the dense network, and that network pruned and retrained, unless the run began with it."""
    configuration, device = run.configuration, stages.set_up(run.configuration)
    dataset = Dataset.from_arrays(arrays)
    splits = stages.folds(configuration, dataset).search()

    def dense(report: Report, checkpoints: Checkpoints) -> Result:
        return stages.train_dense(configuration, dataset, splits, device, report, checkpoints)

    def pruned(report: Report, checkpoints: Checkpoints) -> Result:
        network = run.result("dense").network
        return stages.prune(network, configuration, splits, device, report, checkpoints)

    if not configuration.model.pruned:
        run.once("dense", stages.plan(configuration)["dense training"], dense)
    run.once("pruned", stages.pruning_epochs(configuration), pruned)


def prune_found(run: Run, arrays: dict[str, Array], recipe: Recipe) -> None:
    """Ray task: the dense network pruned and retrained with the assignment that was found on it."""
    configuration, device = run.configuration, stages.set_up(run.configuration)
    splits = stages.folds(configuration, Dataset.from_arrays(arrays)).search()
    dense = stages.searchable(run.result("dense").network, configuration).assign(recipe.assignment)
    run.once(
        FOUND,
        stages.pruning_epochs(configuration),
        lambda report, checkpoints: stages.prune(dense, configuration, splits, device, report, checkpoints),
    )


def finish(run: Run, arrays: dict[str, Array], row: str, recipe: Recipe, fold: int) -> None:
    """Ray task: a row of the table on one fold, the test images included."""
    configuration, device = run.configuration, stages.set_up(run.configuration)
    splits = stages.folds(configuration, Dataset.from_arrays(arrays)).final(fold)
    start = run.result(start_of(configuration, row)).network
    run.once(
        final(row, fold),
        configuration.final.epochs,
        lambda report, checkpoints: stages.finish(
            start, recipe, configuration, splits, fold, device, report, checkpoints
        ),
    )


def train_finalist(run: Run, arrays: dict[str, Array], start: Frozen, recipe: Recipe, stage: str, number: int) -> None:
    """Ray task: one training of a finalist from the network that its sweep started from."""
    configuration, device = run.configuration, stages.set_up(run.configuration)
    splits = stages.folds(configuration, Dataset.from_arrays(arrays)).search()
    network = Network.from_arrays(start)
    run.once(
        stage,
        configuration.final.epochs,
        lambda report, checkpoints: stages.train_finalist(
            network, recipe, configuration, splits, number, device, report, checkpoints
        ),
    )


def test_dense(run: Run, arrays: dict[str, Array]) -> None:
    """Ray task: the dense network, as it is, on the test images."""
    device = stages.set_up(run.configuration)
    splits = stages.folds(run.configuration, Dataset.from_arrays(arrays)).search()
    run.once(final("dense", 0), 0, lambda *_: stages.test(run.result("dense"), splits, device, run.configuration.run))


def run_tasks(run: Run, tasks: Sequence[tuple[Callable[..., None], tuple[Any, ...]]], epochs: int) -> None:
    """Run functions of this module, each on its arguments, as many at a time as fit, and print their news.

    Args:
        epochs: how many the tasks train in all, to tell the time that is left.
    """
    need = run.configuration.tune.resources
    options = {"num_cpus": need.cpu, "num_gpus": need.gpu or 0, "max_retries": 3}
    waiting = [ray.remote(task).options(**options).remote(run, *arguments) for task, arguments in tasks]
    progress = StageProgress(epochs)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=0.5)
        for news in _news(run.news):
            match news:
                case str():
                    log.warning(news)
                case (stage, epochs):
                    progress.made(stage, epochs)
                case _:
                    progress.epoch(*news)
        ray.get(done)


def _news(queue: Queue) -> Iterator[News]:
    """What there is; it is gone with the queue's process when that, or its node, is killed."""
    with suppress(Empty, RayActorError):
        while True:
            yield queue.get_nowait()
