"""Stages as Ray tasks. What a stage made is kept in the run folder and never made again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError
from ray.util.queue import Empty, Queue

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration
from safs_ray.data import Array, Arrays, Dataset, Splits, as_tensors
from safs_ray.experiment import Stage
from safs_ray.experiment.progress import Clock, StageProgress
from safs_ray.log import event, log
from safs_ray.search.recipe import Recipe
from safs_ray.stages import METRICS, Result
from safs_ray.storage import DamagedError, Folder
from safs_ray.training import Context

News = tuple[str, int, float] | tuple[str] | str
"""Stage, epochs done, validation accuracy; or a stage that was made before; or a warning, in one line."""

OnImages = tuple[Stage, Any]
"""A stage, and the arrays of the data in Ray's object store that it may see."""


@dataclass(frozen=True)
class Run:
    """What every task of a run is given, beside the data.

    Attributes:
        news: takes :data:`News` after every epoch.
        told: of this process, the news that may still be on its way.
    """

    configuration: Configuration
    folder: Folder
    news: Queue
    told: list[ray.ObjectRef[Any]] = field(default_factory=list, compare=False)

    def checkpoints(self, part: str) -> Checkpoints:
        """Of the trainings that are under way in a stage or a sweep, which deletes these, and no others, at its end."""
        return Checkpoints(self.folder / CHECKPOINTS / part, self.configuration.run.checkpoint_seconds)

    def result(self, stage: str) -> Result:
        """What a stage that is complete made.

        Raises:
            FileNotFoundError: the stage is not complete.
        """
        result = Result.load(self.folder / "networks" / stage)
        if result is None:
            raise FileNotFoundError(f"{self.folder}/networks/{stage} holds no complete stage")
        return result

    def previous(self, stage: str) -> Result | None:
        """What a stage has made before; None when it has not, or when its files are damaged, which are deleted."""
        folder = self.folder / "networks" / stage
        try:
            return Result.load(folder)
        except DamagedError as error:
            self._tell(f"warning: {error}; it is made again")
            for name in set(folder.names()) - {RECIPE}:
                folder.remove(name)
            return None

    def discard_unless(self, recipe: Recipe, place: str) -> None:
        """Delete what stages have made with another recipe, before a sweep that went on found this one."""
        folder = self.folder / "networks" / place
        before = None
        with suppress(FileNotFoundError, DamagedError):
            before = Recipe.from_json(folder.read_json(RECIPE))
        if before != recipe:
            folder.delete()
            folder.write_json(RECIPE, recipe.as_json())

    def has(self, stage: str) -> bool:
        """Whether a stage is complete."""
        return (self.folder / "networks" / stage).exists(METRICS)

    def once(self, stage: Stage, splits: Splits, device: torch.device, until: float = math.inf) -> None:
        """Make a stage's result, unless it is in the run folder from before, or the stage is left out.

        Args:
            until: when it has to have begun lest it be left out, by the clock on the wall.
        """
        if self.previous(stage.name):
            self._tell((stage.name,))
        elif time.time() < until:
            start = self.result(stage.start) if stage.start else None
            checkpoints = self.checkpoints(stage.name)
            report = seldom(partial(self._report, stage), stage.epochs)
            context = Context(self.configuration, splits, device, report, checkpoints)
            stage.make(start, context).save(self.folder / "networks" / stage.name)
            checkpoints.clear()
        with suppress(RayActorError):
            ray.get(self.told)  # an answer to anything later would say nothing of it: the queue's actor keeps no order

    def _report(self, stage: Stage, epoch: int, accuracy: float) -> None:
        self._tell((stage.name, epoch, accuracy))

    def _tell(self, news: News) -> None:
        """Let the driver know; where the queue is lost with its node, training goes on without.

        Not by ``put``, which waits for an answer: while a task waits, Ray gives its cores to the next one.
        """
        self.told.append(self.news.actor.put_nowait.remote(news))  # type: ignore[attr-defined]


def seldom(report: Callable[[int, float], None], epochs: int) -> Callable[[int, float], None]:
    """Report the first epoch, the last one, and some between: of short epochs the news would cost more than they."""
    last = -SECONDS_BETWEEN

    def report_some(epoch: int, accuracy: float) -> None:
        nonlocal last
        if epoch >= epochs or time.monotonic() - last >= SECONDS_BETWEEN:
            report(epoch, accuracy)
            last = time.monotonic()

    return report_some


SECONDS_BETWEEN = 0.5
"""Between two reports of a stage."""

CHECKPOINTS = "checkpoints"
"""Folder of a run, with one for each stage and sweep that is under way."""

LOGITS = "logits"
"""Part of the checkpoints that keeps what a teacher says of the training images."""

RECIPE = "recipe.json"
"""File of a folder of networks: the recipe that they were made with."""


def make(run: Run, arrays: Arrays, stage: Stage, until: float) -> None:
    """Ray task: a stage's result, in the run folder; see :meth:`Run.once`."""
    device = stages.set_up(run.configuration)
    folds = stages.folds(run.configuration, Dataset.from_arrays(arrays))
    run.once(stage, stage.images(folds), device, until)


class Tasks:
    """A run's stages as Ray tasks.

    Args:
        clock: knows what there is time for, and is told what is done.
    """

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run, self._clock = run, clock
        self._begun: dict[str, ray.ObjectRef[None]] = {}

    def run(self, wanted: Sequence[OnImages]) -> None:
        """Run stages, as many at a time as fit, and print their news.

        Those that are expendable and find no time in the clock's budget are left out.
        """
        self._discard_others(wanted)
        wanted = self._in_time(wanted)
        progress, earlier = StageProgress([stage for stage, _ in wanted], self._clock), set(self._begun)
        self._print(progress, earlier)
        waiting = self._begin(wanted)
        while waiting:
            done, waiting = ray.wait(waiting, timeout=0.5)
            self._print(progress)
            ray.get(done)
        for stage, _ in wanted:
            self._begun.pop(stage.name, None)
            if stage.expendable and not self._run.has(stage.name):
                progress.skip(stage.name)
                self._clock.budget.leave_out(stage.name)

    def filler(self, wanted: Sequence[OnImages]) -> Callable[[int], None]:
        """A function that has at most so many of these stages under way; :meth:`run` goes on with them.

        It is no object, of which Tune would make a copy.
        """
        self._discard_others(wanted)
        left = [(stage, arrays) for stage, arrays in self._in_time(wanted) if not self._run.has(stage.name)]

        def fill(most: int) -> None:
            begun = list(self._begun.values())
            under_way = len(begun) - len(ray.wait(begun, num_returns=len(begun), timeout=0)[0]) if begun else 0
            while left and under_way < most:
                stage, arrays = left.pop(0)
                log.info("%s begins beside the last trials", stage.name, extra=event("beside", stage=stage.name))
                self._begin([(stage, arrays)])
                under_way += 1

        return fill

    def _discard_others(self, wanted: Sequence[OnImages]) -> None:
        """Keep nothing of stages, also of those left out, that was made with another recipe than is wanted."""
        for place, recipe in {stage.place: stage.recipe for stage, _ in wanted}.items():
            if recipe:
                self._run.discard_unless(recipe, place)

    def _in_time(self, wanted: Sequence[OnImages]) -> list[OnImages]:
        """Stages without those left out."""
        return [(stage, arrays) for stage, arrays in wanted if stage.name not in self._clock.budget.left_out]

    def _begin(self, wanted: Sequence[OnImages]) -> list[ray.ObjectRef[None]]:
        """The tasks of stages; those that are under way already are not begun again."""
        task = _task(self._run, make)
        for stage, arrays in wanted:
            if stage.name not in self._begun:
                self._begun[stage.name] = task.remote(self._run, arrays, stage, _until(stage, self._clock))
        return [self._begun[stage.name] for stage, _ in wanted]

    def _print(self, progress: StageProgress, earlier: Collection[str] = ()) -> None:
        """Print the news that there are.

        Args:
            earlier: names of stages of which they are old.
        """
        for news in _news(self._run.news):
            match news:
                case str():
                    log.warning(news)
                case (stage,):
                    progress.skip(stage)
                case (stage, epoch, accuracy) if stage in earlier:
                    progress.late(stage, epoch, accuracy)
                case _:
                    progress.epoch(*news)


def _task(run: Run, function: Callable[..., Any]) -> Any:
    """A function as a Ray task with the resources of a trial."""
    need = run.configuration.tune.resources
    return ray.remote(num_cpus=need.cpu, num_gpus=need.gpu or 0, max_retries=3)(function)


def _until(stage: Stage, clock: Clock) -> float:
    """When a stage has to have begun lest it be left out."""
    return time.time() + clock.time_for(stage.part) if stage.expendable else math.inf


def logits_of(run: Run, name: str, arrays: Any) -> torch.Tensor:
    """The logits of a result's network on the pool; a run that goes on has them from before, to the bit.

    Args:
        arrays: of the data, in Ray's object store.
    """
    found: dict[str, Array] = ray.get(_task(run, teach).remote(run, arrays, name))
    return as_tensors(found)[LOGITS]


def teach(run: Run, arrays: Arrays, name: str) -> dict[str, Array]:
    """Ray task: the logits of a result's network on the pool."""
    device, checkpoints, teacher = stages.set_up(run.configuration), run.checkpoints(LOGITS), run.result(name)
    kept = checkpoints.load(teacher.network.fingerprint)
    if kept is None:
        dataset = Dataset.from_arrays(arrays)
        context = Context(run.configuration, stages.folds(run.configuration, dataset).search(), device)
        kept = {LOGITS: stages.teach(teacher, dataset.pool, context)}
        checkpoints.save(teacher.network.fingerprint, kept)
    return {LOGITS: kept[LOGITS].numpy()}


def _news(queue: Queue) -> Iterator[News]:
    """What there is; it is gone with the queue's process when that, or its node, is killed."""
    with suppress(Empty, RayActorError):
        while True:
            yield queue.get_nowait()
