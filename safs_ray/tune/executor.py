"""An experiment on Ray: stages as tasks, sweeps by Ray Tune, results in the run folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import ray
from ray.util.queue import Queue

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset, Folds
from safs_ray.experiment import Outcome, Stage
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.progress import Clock
from safs_ray.log import log
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course
from safs_ray.search.evaluation import Evaluation
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.board import BoardClient, open_board
from safs_ray.tune.sweep import run_sweep
from safs_ray.tune.tasks import OnImages, Run, Tasks, logits_of
from safs_ray.tune.warm_start import EARLIER


class OnRay:
    """An :class:`~safs_ray.experiment.Executor` on the Ray that is connected.

    Args:
        folder: of the run.
        clock: is told what is done.
    """

    def __init__(self, configuration: Configuration, dataset: Dataset, folder: Folder, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._dataset = dataset
        self._images, self._without_test = _shared(dataset)
        news = Queue(actor_options={"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1})
        self._run = Run(configuration, folder, news)
        self._tasks = Tasks(self._run, clock)
        self._board = f"board of {folder}"
        evaluations, earlier = folder / "evaluations", folder / EARLIER / "evaluations"
        self._kept = open_board(self._board, str(evaluations), str(earlier))  # it lives as long as somebody holds it
        self._damage = self._kept.damage.remote()  # asked for now, read when it is there: its process takes seconds

    @property
    def budget(self) -> Budget:
        """That of the clock."""
        return self._clock.budget

    @property
    def folds(self) -> Folds:
        """Of the data set, as it was given."""
        return stages.folds(self._run.configuration, self._dataset)

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        """The results of stages, as many at a time as fit."""
        self._tasks.run(self._on_images(stages))
        return [self.result(stage.name) for stage in stages if self.has(stage.name)]

    def has(self, name: str) -> bool:
        """Whether a result is in the run folder."""
        return self._run.has(name)

    def result(self, name: str) -> Result:
        """A result in the run folder."""
        return self._run.result(name)

    def teach(self, name: str) -> None:
        """Let all that is trained from now on have the logits of a result's network, through the object store."""
        logits = logits_of(self._run, name, self._without_test)
        self._images, self._without_test = _shared(self._dataset.taught(logits))

    def sweep(
        self, course: Course, start: str, assignment: Assignment | None, meanwhile: Sequence[Stage] = ()
    ) -> list[Outcome]:
        """What the trials of a sweep have found; see :func:`safs_ray.tune.sweep.run_sweep`."""
        network = stages.searchable(self.result(start).network, self._run.configuration)
        begun = network.assign(assignment or network.assignment)
        self._warn()
        fill = self._tasks.filler(self._on_images(meanwhile))
        return run_sweep(course, begun, self._run, self._without_test, self._board, self._clock, fill)

    def evaluations(self) -> list[Evaluation]:
        """All that the board has."""
        self._warn()
        return BoardClient(self._board).evaluations()

    def _warn(self) -> None:
        """Say, once, which records were damaged."""
        warnings, self._damage = ray.get(self._damage), ray.put([])
        for warning in warnings:
            log.warning(warning)

    def _on_images(self, stages: Sequence[Stage]) -> list[OnImages]:
        """Stages, each with the images that it may see."""
        return [(stage, self._images if stage.tests else self._without_test) for stage in stages]

    def keep(self, name: str, result: Result) -> None:
        """Write a result into the run folder."""
        result.save(self._folder / "networks" / name)

    def discard(self, place: str, but: Collection[str]) -> None:
        """Delete folders of results that lie in a folder, but these."""
        folder = self._folder / "networks" / place
        for name in set(folder.folders()) - set(but):
            (folder / name).delete()


def _shared(dataset: Dataset) -> tuple[Any, Any]:
    """References to the data in the object store, with the test images and without."""
    return ray.put(dataset.arrays()), ray.put(dataset.without_test().arrays())
