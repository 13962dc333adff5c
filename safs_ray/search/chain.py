"""A chain: what one trial does, one step at a time.

Which steps follows from the protocol. Joint: every trial searches and then fine-tunes, with hyperparameters of its
own. Staged, as published: in stage 1 chains search with the default hyperparameters; in stage 2 trials fine-tune
the assignment found, each with hyperparameters of its own.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from statistics import mode
from typing import Any

import torch

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.pruning.rules import rule_of
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.search.evaluation import (
    WORST_COST,
    Evaluation,
    Memory,
    Score,
    canonical,
    evaluate,
    evaluation_key,
)
from safs_ray.search.strategy import make
from safs_ray.training import Trainer, Training


@dataclass(frozen=True)
class Course:
    """The steps that every trial of a sweep takes unless it is stopped.

    Attributes:
        sweep: name of the sweep, for instance "stage 1".
        evaluations: candidates to evaluate.
        stretches: stretches of fine-tuning after them, ``finetune.epochs_per_step`` epochs each.
    """

    sweep: str
    evaluations: int
    stretches: int

    @property
    def steps(self) -> int:
        return self.evaluations + self.stretches

    @property
    def own_hyperparameters(self) -> bool:
        """Whether each trial has its own, or all have the default ones."""
        return self.sweep != "stage 1"

    def epochs(self, steps: int, configuration: Configuration) -> int:
        """Epochs that the first so many steps train when no evaluation is repeated."""
        evaluations = min(steps, self.evaluations)
        stretches = steps - evaluations
        return evaluations * configuration.search.epochs + stretches * configuration.finetune.epochs_per_step


def joint(configuration: Configuration) -> Course:
    """The course of protocol joint, where the search and the fine-tuning are one trial."""
    evaluations = min(configuration.search.steps, configuration.iterations)
    return Course("SAFS", evaluations, configuration.iterations - evaluations)


def stage_1(configuration: Configuration) -> Course:
    """Only the search (SAFS, stage 1)."""
    return Course("stage 1", configuration.search.steps, 0)


def stage_2(configuration: Configuration, sweep: str) -> Course:
    """Only the fine-tuning of an assignment that is given (SAFS, stage 2)."""
    return Course(sweep, 0, min(configuration.finetune.stretches, configuration.iterations))


class Chain:
    """Evaluates candidates, then fine-tunes the best of them with learnable scales, as its course says.

    The fine-tuning starts from the pruned weights again. Everything that happens follows from the arguments:
    two chains of the same arguments take the same steps.

    Args:
        network: the pruned network, or the dense one where its trainings prune it; its channels are grouped where the
            search asks for it. The search starts at its assignment, or at a random one.
        splits: ``train`` and ``validation`` of the search; ``test`` is not read.
        hyperparameters: of every evaluation and of the fine-tuning.
        memory: evaluations of this and other chains.
        course: the steps to take.
        trial: name of the trial, from which the strategy's seed is derived.
    """

    def __init__(
        self,
        network: Network,
        splits: Splits,
        hyperparameters: Hyperparameters,
        configuration: Configuration,
        device: torch.device,
        memory: Memory,
        course: Course,
        trial: str,
    ) -> None:
        search, seed = configuration.search, configuration.run.seed
        self.course = course
        self.trial = trial
        self.iteration = 0
        self._network = network
        self._configuration = configuration
        self._memory = memory
        self._trainer: Trainer | None = None
        self._evaluation = Training(
            splits,
            hyperparameters,
            search.epochs,
            derive(seed, "evaluation"),
            device,
            configuration.data,
            mask_rule=rule_of(configuration),
            execution=configuration.run.execution,
        )
        self._fine_tuning = replace(
            self._evaluation,
            epochs=configuration.finetune.epochs,
            seed=derive(seed, "fine-tuning"),
            learn_scales=True,
        )
        own = derive(seed, "chain", trial)
        start = network.assignment
        if search.granularity == "network" and course.evaluations:
            start = (mode(start),)  # the strategy proposes one operator, which goes to every site
        if search.start == "random" and course.evaluations:
            start = random_assignment(search.operators, len(start), random.Random(derive(own, "start")))
        self._sites_each = len(network.sites) // len(start)
        self.strategy = make(search, start, own)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        broken = self._trainer is not None and self._trainer.diverged
        return broken or self.iteration >= self.course.steps

    def step(self) -> Evaluation:
        """Take the next step and keep it in the memory."""
        searching = self.iteration < self.course.evaluations
        evaluation = self._evaluate_candidate() if searching else self._fine_tune()
        self._memory.record(evaluation)
        self.iteration += 1
        return evaluation

    @property
    def best(self) -> Assignment:
        """The best assignment of the search so far."""
        return self.strategy.best * self._sites_each

    def network(self) -> Network:
        """The best network of the fine-tuning; the pruned one with the best assignment before it."""
        if self._trainer is None:
            return self._network.assign(self.best)
        return self._trainer.best()

    def _evaluate_candidate(self) -> Evaluation:
        candidate = self.strategy.ask() * self._sites_each
        key = evaluation_key(self._network, candidate, self._evaluation)
        known = self._memory.recall(key)
        if known is None:
            score = evaluate(self._network, candidate, self._evaluation)
        else:
            score = Score(known.validation_accuracy, known.diverged, known.core_seconds)
        # A step taken again after an interruption finds itself: that is no repetition.
        own = (self.course.sweep, self.trial, self.iteration)
        repeated = known is not None and known.place != own
        accepted = self.strategy.tell(score.cost)
        return Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="search",
            key=key,
            assignment=candidate,
            hyperparameters=canonical(self._evaluation.hyperparameters),
            epochs=self._evaluation.epochs,
            seed=self._evaluation.seed,
            validation_accuracy=score.validation_accuracy,
            best_accuracy=1 - self.strategy.best_cost,
            cost=score.cost,
            accepted=accepted,
            diverged=score.diverged,
            repeated=repeated,
            core_seconds=0.0 if repeated else score.core_seconds,
        )

    def _fine_tune(self) -> Evaluation:
        start = time.process_time()
        trainer = self._trainer = self._trainer or self._new_trainer()
        before = trainer.epoch
        accuracy = 0.0
        while trainer.epoch < before + self._configuration.finetune.epochs_per_step and not trainer.diverged:
            accuracy = trainer.run_epoch()
        return Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="fine-tuning",
            key="",
            assignment=self.best,
            hyperparameters=canonical(self._fine_tuning.hyperparameters),
            epochs=trainer.epoch - before,
            seed=self._fine_tuning.seed,
            validation_accuracy=accuracy,
            best_accuracy=trainer.best_accuracy,
            cost=WORST_COST if trainer.diverged else 1 - accuracy,
            accepted=True,
            diverged=trainer.diverged,
            repeated=False,
            core_seconds=time.process_time() - start,
        )

    def _new_trainer(self) -> Trainer:
        return Trainer(self._network.assign(self.best), self._fine_tuning)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which :meth:`load_state_dict` goes on exactly, between any two steps."""
        return {
            "iteration": self.iteration,
            "strategy": self.strategy.state_dict(),
            "trainer": self._trainer.state_dict() if self._trainer else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a chain of the same arguments was."""
        self.iteration = state["iteration"]
        self.strategy.load_state_dict(state["strategy"])
        self._trainer = None
        if state["trainer"] is not None:
            self._trainer = self._new_trainer()
            self._trainer.load_state_dict(state["trainer"])
