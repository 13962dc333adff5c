"""A stage of an experiment, and what runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from safs_ray.data import Folds, Splits
from safs_ray.experiment.budget import Budget
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course, Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context

Make = Callable[[Result | None, Context], Result]
"""Makes the result of a stage from that of the stage before it."""

DENSE, PRUNED, PRUNED_AGAIN, BEST = "dense", "pruned", "pruned-found", "best"
"""Names of results: the dense network, it pruned, it pruned with the assignment that was found on it, the best."""

PRUNERS, FINALISTS, FINAL = "pruners", "finalists", "final"
"""What the names of results begin with: of pruners that are tried, of finalists, and of the final evaluation."""

DEFAULT = "default"
"""What stands for the name of a trial where a finalist is the default recipe, which no trial has found."""


@dataclass(frozen=True)
class Stage:
    """A piece of work that is done once.

    Attributes:
        name: of its result.
        epochs: that it trains.
        start: name of the result that it begins from; None for none.
        images: which of the experiment's images it sees.
        tests: whether it reads the test images.
        recipe: what its result depends on beside its start: with another it is made anew.
        expendable: whether it is left out when the budget ends before it begins.
    """

    name: str
    epochs: int
    make: Make
    start: str | None = None
    images: Callable[[Folds], Splits] = Folds.search
    tests: bool = False
    recipe: Recipe | None = None
    expendable: bool = False

    @property
    def place(self) -> str:
        """What all stages of one recipe share: the name without its last part, if it has several."""
        return self.name.rpartition("/")[0] or self.name

    @property
    def part(self) -> str:
        """The part of the experiment: ``dense``, ``pruners/epochs-N``, ``pruned``, ``finalists/SWEEP``, ``final``."""
        return part_of(self.name)


def part_of(name: str) -> str:
    """The part of the experiment that a stage of this name belongs to; see :attr:`Stage.part`. Of a sweep, itself."""
    first, *others = name.split("/")
    if first == PRUNERS:
        return f"{first}/{others[-1]}"
    return "/".join((first, *others[:1])) if first == FINALISTS else first


def final(row: str, fold: int) -> str:
    """The name of the result that is a row of the table on a fold."""
    return f"{FINAL}/{row}/fold-{fold}"


def finalists_place(sweep: Sweep, trial: str = "") -> str:
    """Where the trainings of a sweep's finalists lie, or of one of them."""
    return f"{FINALISTS}/{sweep}/{trial}".rstrip("/")


class Outcome(NamedTuple):
    """What a trial that reached its end has found.

    Attributes:
        accuracy: on the validation images, in [0, 1]; 0 of a recipe that no trial has found.
    """

    trial: str
    recipe: Recipe
    accuracy: float


class FailedSearchError(Exception):
    """No trial of a sweep reached its end. Its ``__cause__`` is why one of them failed, if one did."""


class Executor(Protocol):
    """Where an experiment runs: in this process, or on Ray. What was done before is not done again."""

    @property
    def budget(self) -> Budget:
        """The time that the experiment may take, and what is left out for want of it."""

    @property
    def folds(self) -> Folds:
        """The experiment's images, as its stages divide them."""

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        """The results of stages, which are run beside each other as far as they fit, without those left out."""

    def has(self, name: str) -> bool:
        """Whether a result is there."""

    def result(self, name: str) -> Result:
        """A result that is there."""

    def teach(self, name: str) -> None:
        """Let all that is trained from now on have the logits of a result's network; see :func:`stages.teach`."""

    def sweep(
        self, course: Course, start: str, assignment: Assignment | None, meanwhile: Sequence[Stage] = ()
    ) -> list[Outcome]:
        """What the trials of a sweep have found, by number; nothing where the budget ended before any step.

        Args:
            start: name of the result whose network every trial begins from.
            assignment: that the network is given first; None for its own.
            meanwhile: stages that will be asked for next, whatever is found: what the last trials leave idle may begin
                them.

        Raises:
            FailedSearchError: no trial reached its end.
        """

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the experiment."""

    def keep(self, name: str, result: Result) -> None:
        """Keep a result that no stage made."""

    def discard(self, place: str, but: Collection[str]) -> None:
        """Forget the results that lie in a place, but these."""
