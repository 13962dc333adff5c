"""Sweeps and their trials, as the evaluations tell of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safs_ray import experiment
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course, Sweep
from safs_ray.search.evaluation import Evaluation

Fate = Literal["finished", "stopped", "cut", "diverged", "failed", "open"]

KNOWN: dict[str, Fate] = {"stopped": "stopped", "cut": "cut"}
"""Of the endings in a journal those that the steps do not tell."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: 1 for the trial of its sweep that was heard of first.
        evaluations: its steps, in order; at least one.
        fate: finished, stopped by ASHA, cut short by the budget, diverged in its fine-tuning, failed, or open: still
            running, or stopped.
    """

    number: int
    name: str
    evaluations: tuple[Evaluation, ...]
    fate: Fate

    @property
    def steps(self) -> int:
        return len(self.evaluations)

    @property
    def best_accuracy(self) -> float:
        """What ASHA compared last, in [0, 1]: the highest validation accuracy of the phase that the trial was in."""
        return self.evaluations[-1].best_accuracy

    @property
    def search(self) -> tuple[Evaluation, ...]:
        """The steps that evaluated a candidate."""
        return tuple(evaluation for evaluation in self.evaluations if evaluation.phase == "search")

    @property
    def hyperparameters(self) -> Hyperparameters:
        return Hyperparameters(**json.loads(self.evaluations[-1].hyperparameters))

    @property
    def best_assignment(self) -> Assignment:
        """The assignment of the highest validation accuracy; in fine-tuning that which is fine-tuned."""
        last = self.evaluations[-1]
        if last.phase == "fine-tuning":
            return last.assignment
        return max(self.search, key=lambda evaluation: evaluation.validation_accuracy).assignment


@dataclass(frozen=True)
class SweepRecord:
    """The trials of one search.

    Attributes:
        planned: how many trials there are to be.
        rungs: steps at which ASHA compares trials, ascending; none where it does not.
        over: whether all its trials have ended.
        winner: the trial whose result went on; the best so far where the sweep is not over.
    """

    course: Course
    planned: int
    rungs: tuple[int, ...]
    trials: tuple[Trial, ...]
    over: bool
    winner: Trial

    @property
    def name(self) -> Sweep:
        return self.course.sweep

    @property
    def best_assignment(self) -> Assignment:
        return self.winner.best_assignment


def sweeps_of(
    configuration: Configuration,
    evaluations: Sequence[Evaluation],
    results: Mapping[str, Any] | None,
    searched: bool,
    endings: Callable[[Course], Mapping[str, str]] = lambda _: {},
) -> tuple[SweepRecord, ...]:
    """The sweeps that have begun, in the order of the run.

    Args:
        results: the content of results.json, where it is there: it tells how the finalists did, and trials apart that
            are equally good.
        searched: whether the search is over.
        endings: how trials of a sweep are known to have ended, by name.
    """
    planned = experiment.sweeps(configuration)
    begun = {evaluation.sweep for evaluation in evaluations}
    later = [any(course.sweep in begun for course, _ in planned[index + 1 :]) for index in range(len(planned))]
    return tuple(
        _sweep(configuration, course, count, evaluations, results or {}, over or searched, endings(course))
        for (course, count), over in zip(planned, later, strict=True)
        if course.sweep in begun
    )


def _sweep(
    configuration: Configuration,
    course: Course,
    planned: int,
    evaluations: Sequence[Evaluation],
    results: Mapping[str, Any],
    over: bool,
    endings: Mapping[str, str],
) -> SweepRecord:
    steps: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.sweep == course.sweep:
            steps.setdefault(evaluation.trial, []).append(evaluation)
    rungs = course.rungs(configuration)
    trials = tuple(
        Trial(
            number,
            name,
            tuple(sorted(taken, key=lambda evaluation: evaluation.iteration)),
            _fate(taken, course, rungs, over, endings.get(name)),
        )
        for number, (name, taken) in enumerate(steps.items(), start=1)
    )
    return SweepRecord(course, planned, rungs, trials, over, _winner(trials, course.sweep, results))


def _fate(taken: Sequence[Evaluation], course: Course, rungs: Sequence[int], over: bool, ending: str | None) -> Fate:
    if ending in KNOWN:
        return KNOWN[ending]
    last = max(taken, key=lambda evaluation: evaluation.iteration)
    if last.diverged and last.phase == "fine-tuning":
        return "diverged"
    if len(taken) >= course.steps:
        return "finished"
    if not over:
        return "open"
    return "stopped" if len(taken) in rungs else "failed"


def _winner(trials: Sequence[Trial], sweep: Sweep, results: Mapping[str, Any]) -> Trial:
    """The finalist that won, or did best when trained again; without finalists the best that no rung stopped.

    Of equally good ones it is that which the results tell of. Where none is finished, it is the best of all.
    """
    chosen = results.get("hyperparameters") if sweep is Sweep.SAFS else None
    finalists = results.get("finalists", {}).get(sweep, {})

    def rank(trial: Trial) -> tuple[bool, float, float, bool]:
        known = finalists.get(trial.name, {"validation_accuracy": {"mean": -1.0}})
        again = known["validation_accuracy"]["mean"]
        return known.get("won", False), again, trial.best_accuracy, trial.hyperparameters.model_dump() == chosen

    return max([trial for trial in trials if trial.fate in ("finished", "cut")] or trials, key=rank)
