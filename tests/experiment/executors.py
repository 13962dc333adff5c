"""What tests make of the executor of this process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.experiment import Outcome, Stage
from safs_ray.experiment.local import InProcess
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course, Sweep
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from tests.stages.altered import WILD

CALM = Hyperparameters(learning_rate=5e-3, batch_size=32)
FOUND = (
    Outcome("trial-1", Recipe(("relu", "tanh"), CALM, learn_scales=True), 0.3),
    Outcome("trial-2", Recipe(("symexp", "symexp"), WILD, learn_scales=True), 0.9),
    Outcome("trial-3", Recipe(("tanh", "swish"), CALM, learn_scales=True), 0.5),
    Outcome("trial-4", Recipe(("tanh", "tanh"), CALM, learn_scales=True), 0.1),
)
"""What the trials of a sweep have found, and how well; the second diverges when it is trained again."""


class Recorded(InProcess):
    """Keeps what an experiment asks for.

    Attributes:
        stages: that were run, by name, in their order.
        sweeps: that were run, each with the name of the network that it started from and the assignment that it was
            given.
        kept: names of results that no stage made.
        discarded: places, each with what stays in it.
    """

    def __init__(
        self, configuration: Configuration, dataset: Dataset, results: Mapping[str, Result] | None = None
    ) -> None:
        super().__init__(configuration, dataset, results=results)
        self.stages: dict[str, Stage] = {}
        self.sweeps: dict[Sweep, tuple[str, Assignment | None]] = {}
        self.kept: list[str] = []
        self.discarded: list[tuple[str, Collection[str]]] = []

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        self.stages |= {stage.name: stage for stage in stages}
        return super().run(stages)

    def sweep(
        self, course: Course, start: str, assignment: Assignment | None, meanwhile: Sequence[Stage] = ()
    ) -> list[Outcome]:
        self.sweeps[course.sweep] = start, assignment
        return super().sweep(course, start, assignment, meanwhile)

    def keep(self, name: str, result: Result) -> None:
        self.kept.append(name)
        super().keep(name, result)

    def discard(self, place: str, but: Collection[str]) -> None:
        self.discarded.append((place, but))
        super().discard(place, but)


class Beaten(Recorded):
    """One in which the default recipe does badly whenever it is a finalist."""

    def result(self, name: str) -> Result:
        result = super().result(name)
        return replace(result, validation_accuracy=0.0) if "/default/" in name else result


class Unbeaten(Recorded):
    """One in which trials do badly whenever they are finalists."""

    def result(self, name: str) -> Result:
        result = super().result(name)
        beaten = name.startswith("finalists/") and "/default/" not in name
        return replace(result, validation_accuracy=0.0) if beaten else result


class Searched(Recorded):
    """One whose trials are over.

    Args:
        outcomes: what they have found.
    """

    def __init__(
        self,
        configuration: Configuration,
        dataset: Dataset,
        results: Mapping[str, Result],
        outcomes: Sequence[Outcome],
    ) -> None:
        super().__init__(configuration, dataset, results)
        self._outcomes = list(outcomes)

    def sweep(
        self,
        course: Course,
        start: str,
        assignment: Assignment | None,
        meanwhile: Sequence[Stage] = (),  # noqa: ARG002
    ) -> list[Outcome]:
        self.sweeps[course.sweep] = start, assignment
        return self._outcomes
