"""Sweeps, and the steps that their trials take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from safs_ray.config import Configuration


class Sweep(StrEnum):
    """What a trial belongs to; each sweep leads to the row of the table that has its name.

    Attributes:
        OPERATORS: chains that search operators with the default hyperparameters (SAFS, stage 1).
        SCALES: trials that search hyperparameters, scales learned, for the network's own operators (SAFS, stage 2).
        SAFS: trials that search hyperparameters, scales learned, for the operators that were found; with protocol
            joint they search the operators as well.
    """

    OPERATORS = "stage 1"
    SCALES = "stage 2"
    SAFS = "SAFS"


@dataclass(frozen=True)
class Course:
    """The steps that every trial of a sweep takes unless it is stopped.

    Attributes:
        evaluations: candidates to evaluate.
        stretches: stretches of fine-tuning after them, ``finetune.epochs_per_step`` epochs each.
    """

    sweep: Sweep
    evaluations: int
    stretches: int

    @property
    def steps(self) -> int:
        return self.evaluations + self.stretches

    @property
    def searches_hyperparameters(self) -> bool:
        """Whether each trial has hyperparameters of its own, or all have the default ones."""
        return self.sweep is not Sweep.OPERATORS

    def trial(self, number: int) -> str:
        """The name of a trial; people count from 1."""
        return f"{'trial' if self.searches_hyperparameters else 'chain'}-{number + 1}"

    def number(self, trial: str) -> int:
        """The number of the trial of this name."""
        return int(trial.rpartition("-")[2]) - 1

    def epochs(self, steps: int, configuration: Configuration) -> int:
        """Epochs that the first so many steps train when no evaluation is repeated."""
        evaluations = min(steps, self.evaluations)
        stretches = steps - evaluations
        return evaluations * configuration.search.epochs + stretches * configuration.finetune.epochs_per_step

    def rungs(self, configuration: Configuration) -> tuple[int, ...]:
        """The steps at which ASHA compares, of all brackets together: the grace period times powers of the factor."""
        section = configuration.tune
        if section.scheduler == "none" or not self.searches_hyperparameters:
            return ()
        rungs = [min(section.grace_period, self.steps)]
        while rungs[-1] * section.reduction_factor < self.steps:
            rungs.append(rungs[-1] * section.reduction_factor)
        return tuple(rung for rung in rungs if rung < self.steps)


def joint(configuration: Configuration) -> Course:
    """The course of protocol joint, where the search and the fine-tuning are one trial.

    Examples:
        >>> joint(Configuration.model_validate({"search": {"steps": 20}})).evaluations
        20
    """
    evaluations = min(configuration.search.steps, configuration.iterations)
    return Course(Sweep.SAFS, evaluations, configuration.iterations - evaluations)


def operators_only(configuration: Configuration) -> Course:
    """Only the search (SAFS, stage 1)."""
    return Course(Sweep.OPERATORS, configuration.search.steps, 0)


def scales_only(configuration: Configuration, sweep: Sweep) -> Course:
    """Only the fine-tuning of an assignment that is given (SAFS, stage 2)."""
    return Course(sweep, 0, min(configuration.finetune.stretches, configuration.iterations))
