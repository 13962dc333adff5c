"""An evaluation: a candidate's short training and its validation accuracy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from safs_ray.config import Hyperparameters
from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Sweep
from safs_ray.training import Training, begin, digest

Phase = Literal["search", "fine-tuning"]


@dataclass(frozen=True)
class Evaluation:
    """One step of a trial, as it is kept on the board and in ``evaluations/*.parquet``.

    Attributes:
        trial: name of the trial.
        iteration: steps of the trial before this one.
        phase: "search" for a candidate's short training, "fine-tuning" for a stretch of the long one.
        key: equal for evaluations that train the same thing; empty in fine-tuning.
        epochs: epochs trained in this step.
        validation_accuracy: in [0, 1]; in search the highest of the training, in fine-tuning that of its end.
        best_accuracy: highest of the phase so far; what ASHA compares.
        cost: 1 - validation accuracy, which is 0 when it diverged.
        accepted: whether the strategy moved to the candidate; always true in fine-tuning.
        repeated: whether the score came from the board, without training.
        core_seconds: CPU time of the training, 0 when repeated.
        curve: in search, the validation accuracy after every epoch.
    """

    sweep: Sweep
    trial: str
    iteration: int
    phase: Phase
    key: str
    assignment: Assignment
    hyperparameters: str
    epochs: int
    seed: int
    validation_accuracy: float
    best_accuracy: float
    cost: float
    accepted: bool
    diverged: bool
    repeated: bool
    core_seconds: float
    curve: tuple[float, ...] = ()


Claimed = Literal["mine", "another's", "known"]


class Memory(Protocol):
    """Where evaluations are kept, so that none is trained twice."""

    def recall(self, key: str) -> Evaluation | None:
        """The evaluation of this key; None before there is one."""

    def claim(self, key: str) -> Claimed:
        """Whose an evaluation is to make: the asker's from now on, unless another makes it or it is there."""

    def release(self, key: str) -> None:
        """Say that an evaluation that was not there is not made after all: others may be waiting for it."""

    def steps(self, sweep: Sweep, trial: str) -> dict[int, Evaluation]:
        """What is recorded of a trial, by iteration."""

    def record(self, evaluation: Evaluation) -> None:
        """Keep an evaluation; one of the same place is kept once."""


class Ledger:
    """A :class:`Memory` in this process."""

    def __init__(self, evaluations: Sequence[Evaluation] = ()) -> None:
        self._all: list[Evaluation] = []
        self._trials: dict[tuple[Sweep, str], dict[int, Evaluation]] = {}
        self._trained: dict[str, Evaluation] = {}
        for evaluation in evaluations:
            self.record(evaluation)

    def recall(self, key: str) -> Evaluation | None:
        return self._trained.get(key)

    def claim(self, key: str) -> Claimed:
        return "known" if key in self._trained else "mine"

    def release(self, key: str) -> None:
        """Nobody waits."""

    def steps(self, sweep: Sweep, trial: str) -> dict[int, Evaluation]:
        return dict(self._trials.get((sweep, trial), {}))

    def trials(self, sweep: Sweep) -> list[str]:
        """The names of a sweep's trials that have steps."""
        return [trial for of_sweep, trial in self._trials if of_sweep == sweep]

    def record(self, evaluation: Evaluation) -> None:
        if evaluation in self:
            return
        self._all.append(evaluation)
        self._trials.setdefault((evaluation.sweep, evaluation.trial), {})[evaluation.iteration] = evaluation
        if evaluation.key and not evaluation.repeated:
            self._trained.setdefault(evaluation.key, evaluation)

    def best(self, sweep: Sweep) -> Evaluation | None:
        """The candidate of a sweep with the lowest cost, the earliest of several; None before any that converged."""
        candidates = [one for one in self._all if one.sweep == sweep and one.phase == "search" and not one.diverged]
        return min(candidates, key=lambda one: one.cost, default=None)

    def __contains__(self, evaluation: Evaluation) -> bool:
        return evaluation.iteration in self._trials.get((evaluation.sweep, evaluation.trial), ())

    @property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation, in the order of arrival."""
        return list(self._all)


@dataclass(frozen=True)
class Score:
    """What an evaluation found.

    Attributes:
        core_seconds: CPU time of its training, 0 when it is repeated.
        curve: validation accuracy after every epoch.
        repeated: whether it was trained before.
    """

    validation_accuracy: float
    diverged: bool
    core_seconds: float
    curve: tuple[float, ...] = ()
    repeated: bool = False

    @classmethod
    def of(cls, known: Evaluation) -> Score:
        """The score of an evaluation that was made before, at no cost now."""
        return cls(known.validation_accuracy, known.diverged, 0.0, known.curve, repeated=True)

    @property
    def cost(self) -> float:
        return 1 - self.validation_accuracy


def evaluate(network: Network, candidates: Sequence[Assignment], training: Training) -> list[Score]:
    """Train the network's weights with each candidate's operators (SAFS, stage 1), all side by side.

    A score is the highest validation accuracy after any epoch; a training that diverges has the worst one. It is the
    same, bit for bit, beside others as alone.

    Raises:
        AloneError: several candidates that can only be trained one at a time.
    """
    trainer = begin([network.assign(candidate) for candidate in candidates], training)
    while not trainer.over:
        trainer.run_epoch()
    trainer.forget()  # what is lost until the scores are recorded is a moment
    seconds, worst = trainer.core_seconds / len(candidates), training.context.configuration.worst_score
    return [
        Score(worst if standing.diverged else standing.best_accuracy, standing.diverged, seconds, standing.curve)
        for standing in trainer.standings
    ]


def evaluation_key(network: Network, candidate: Assignment, training: Training) -> str:
    """Equal for evaluations in one run that train the same weights in the same way."""
    chosen = canonical(training.hyperparameters)
    return digest(network.fingerprint, candidate, chosen, training.epochs, training.seed)


def canonical(hyperparameters: Hyperparameters) -> str:
    """Hyperparameters as JSON, the same text for the same values."""
    return json.dumps(hyperparameters.model_dump(), sort_keys=True)
