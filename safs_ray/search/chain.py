"""A chain: the search and the fine-tuning of one trial, one step at a time."""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import replace
from typing import Any

import torch

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import random_assignment
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


class Chain:
    """Evaluates ``search.steps`` candidates, then fine-tunes the best of them with learnable scales.

    The fine-tuning starts from the pruned weights again. Everything that happens follows from the arguments:
    two chains of the same arguments take the same steps.

    Args:
        network: the pruned network with its default activations.
        splits: ``train`` and ``validation`` of the search; ``test`` is not read.
        hyperparameters: of every evaluation and of the fine-tuning.
        memory: evaluations of this and other chains.
    """

    def __init__(
        self,
        network: Network,
        splits: Splits,
        hyperparameters: Hyperparameters,
        configuration: Configuration,
        device: torch.device,
        memory: Memory,
    ) -> None:
        search, seed = configuration.search, configuration.run.seed
        self.trial = trial_name(hyperparameters)
        self.iteration = 0
        self._network = network
        self._configuration = configuration
        self._memory = memory
        self._trainer: Trainer | None = None
        self._evaluation = Training(
            splits, hyperparameters, search.epochs, derive(seed, "evaluation"), device, configuration.data
        )
        self._fine_tuning = replace(
            self._evaluation,
            epochs=configuration.finetune.epochs,
            seed=derive(seed, "fine-tuning"),
            learn_scales=True,
        )
        own = derive(seed, "chain", self.trial)
        start = network.assignment
        if search.start == "random":
            start = random_assignment(search.operators, len(network.sites), random.Random(derive(own, "start")))
        self.strategy = make(search, start, own)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        broken = self._trainer is not None and self._trainer.diverged
        return broken or self.iteration >= self._configuration.iterations

    def step(self) -> Evaluation:
        """Take the next step and keep it in the memory."""
        searching = self.iteration < self._configuration.search.steps
        evaluation = self._evaluate_candidate() if searching else self._fine_tune()
        self._memory.record(evaluation)
        self.iteration += 1
        return evaluation

    def network(self) -> Network:
        """The best network of the fine-tuning; the pruned one with the best assignment before it."""
        if self._trainer is None:
            return self._network.assign(self.strategy.best)
        return self._trainer.best()

    def _evaluate_candidate(self) -> Evaluation:
        candidate = self.strategy.ask()
        key = evaluation_key(self._network, candidate, self._evaluation)
        known = self._memory.recall(key)
        if known is None:
            score = evaluate(self._network, candidate, self._evaluation)
        else:
            score = Score(known.validation_accuracy, known.diverged, known.core_seconds)
        # A step taken again after an interruption finds itself: that is no repetition.
        repeated = known is not None and (known.trial, known.iteration) != (self.trial, self.iteration)
        accepted = self.strategy.tell(score.cost)
        return Evaluation(
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
            trial=self.trial,
            iteration=self.iteration,
            phase="fine-tuning",
            key="",
            assignment=self.strategy.best,
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
        return Trainer(self._network.assign(self.strategy.best), self._fine_tuning)

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


def trial_name(hyperparameters: Hyperparameters) -> str:
    """Eight hexadecimal digits that follow from the hyperparameters; Ray's own trial names are random."""
    return hashlib.sha256(canonical(hyperparameters).encode()).hexdigest()[:8]
