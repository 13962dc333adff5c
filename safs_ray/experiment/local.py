"""An experiment in this process, its results in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import torch

from safs_ray import stages
from safs_ray.config import Configuration, Hyperparameters, counted
from safs_ray.data import Dataset, Folds
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.progress import BUDGET_ENDED, Clock, StageProgress, SweepProgress, news_of
from safs_ray.experiment.stage import FailedSearchError, Outcome, Stage
from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.course import Course
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.search.hyperparameters import default_only, search_space
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.training import Context


class InProcess:
    """An :class:`~safs_ray.experiment.Executor` that does one thing after another, and stops no trial.

    Args:
        results: that are there already, such as a dense network, by name.
        clock: is told what is done.

    Examples:
        >>> from safs_ray.config import validate
        >>> from safs_ray.experiment import run
        >>> configuration = validate({
        ...     "data": {"size": 8, "limit": 60, "validation": 0.2}, "model": {"name": "mlp"}, "dense": {"epochs": 1},
        ...     "pruning": {"sparsity": 0.9, "epochs": 1}, "search": {"steps": 2, "epochs": 1},
        ...     "finetune": {"epochs": 1, "epochs_per_step": 1}, "tune": {"grace_period": 1, "trials": 1},
        ...     "final": {"folds": 1, "epochs": 1, "ablations": []}, "run": {"execution": "dense"},
        ... })
        >>> dataset = stages.load(configuration)
        >>> splits = stages.folds(configuration, dataset).search()
        >>> specification = stages.specify(configuration, dataset, splits)
        >>> results = run(configuration, specification, InProcess(configuration, dataset))
        >>> [(row["name"], row["nonzero_weights"]) for row in results["rows"]]
        [('dense', 50200), ('pruned', 5020), ('SAFS', 5020)]
    """

    def __init__(
        self,
        configuration: Configuration,
        dataset: Dataset,
        device: torch.device | None = None,
        results: Mapping[str, Result] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._configuration, self._device = configuration, device or torch.device("cpu")
        self._clock = clock or Clock({})
        self._dataset, self._folds = dataset, stages.folds(configuration, dataset)
        self._results = dict(results or {})
        self._ledger = Ledger()

    @property
    def budget(self) -> Budget:
        """That of the clock."""
        return self._clock.budget

    @property
    def folds(self) -> Folds:
        """Of the data set, with logits once a network teaches."""
        return self._folds

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        """The results of stages, one after the other."""
        missing = [stage for stage in stages if stage.name not in self._results]
        progress = StageProgress(missing, self._clock)
        for stage in missing:
            if stage.expendable and self._clock.leaves_out(stage.name):
                continue
            start = self._results[stage.start] if stage.start else None
            context = Context(
                self._configuration, stage.images(self.folds), self._device, partial(progress.epoch, stage.name)
            )
            self._results[stage.name] = stage.make(start, context)
        return [self._results[stage.name] for stage in stages if self.has(stage.name)]

    def has(self, name: str) -> bool:
        """Whether a result is there."""
        return name in self._results

    def result(self, name: str) -> Result:
        """A result that is there."""
        return self._results[name]

    def teach(self, name: str) -> None:
        """Let all that is trained from now on have the logits of a result's network."""
        context = Context(self._configuration, self._folds.search(), self._device)
        logits = stages.teach(self._results[name], self._dataset.pool, context)
        self._folds = stages.folds(self._configuration, self._dataset.taught(logits))

    def sweep(
        self,
        course: Course,
        start: str,
        assignment: Assignment | None,
        meanwhile: Sequence[Stage] = (),  # noqa: ARG002
    ) -> list[Outcome]:
        """What the trials of a sweep have found, one after the other, which leave nothing idle."""
        network = stages.searchable(self._results[start].network, self._configuration)
        begun = network.assign(assignment or network.assignment)
        searches = course.searches_hyperparameters
        propose = (search_space if searches else default_only)(self._configuration)
        ended: list[tuple[Hyperparameters, float]] = []
        outcomes = []
        trials = self._configuration.tune.trials if searches else self._configuration.search.chains
        progress = SweepProgress(self._configuration, course, trials, self._clock)
        for number in range(trials):
            if self._clock.leaves_out(course.sweep):
                break
            hyperparameters = propose(number, ended)
            assignment, last = self._trial(course, number, begun, hyperparameters, progress)
            ended.append((hyperparameters, last.best_accuracy))
            if not last.diverged or last.phase == "search":
                recipe = Recipe(assignment, hyperparameters, searches)
                outcomes.append(Outcome(course.trial(number), recipe, last.best_accuracy))
        if not outcomes and ended:
            raise FailedSearchError(f"{course.sweep}: none of {counted(len(ended), 'trial')} reached its end")
        return outcomes

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the experiment."""
        return self._ledger.evaluations

    def keep(self, name: str, result: Result) -> None:
        """Keep a result that no stage made."""
        self._results[name] = result

    def discard(self, place: str, but: Collection[str]) -> None:
        """Nothing: no sweep goes on here after it has had finalists."""

    def _trial(
        self,
        course: Course,
        number: int,
        network: Network,
        hyperparameters: Hyperparameters,
        progress: SweepProgress,
    ) -> tuple[Assignment, Evaluation]:
        """The best assignment of a trial, and its last step."""
        context = Context(self._configuration, self._folds.search(), self._device)
        shared = self._configuration.search.share == "best" and course.evaluations > 0
        best = self._ledger.best(course.sweep) if shared else None
        start = best.assignment if best else None
        trial = course.trial(number)
        chain = Chain(network, context, hyperparameters, self._ledger, course, trial, start)
        last, cut = chain.step(), False
        progress.step(trial, chain.iteration, news_of(last))
        while not (chain.finished or (cut := self._clock.leaves_out(course.sweep))):
            last = chain.step()
            progress.step(trial, chain.iteration, news_of(last))
        why = BUDGET_ENDED if cut else "its fine-tuning diverged" if chain.iteration < course.steps else ""
        progress.end(trial, why)
        return chain.best, last
