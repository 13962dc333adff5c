"""A chain: what one trial does, one step at a time.

Which steps follows from the protocol. Joint: every trial searches and then fine-tunes, with hyperparameters of its
own. Staged, as published: in stage 1 chains search with the default hyperparameters; in stage 2 trials fine-tune
the assignment found, each with hyperparameters of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mode

import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters, SearchSection
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
from safs_ray.search.rungs import Curve, Rungs
from safs_ray.search.strategy import make, upcoming
from safs_ray.training import NotTogetherError, Trainer, Training

TOGETHER = 16
"""Candidates that are trained side by side; of more, each gains little."""


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

    def trial(self, number: int) -> str:
        """The name of a trial; people count from 1."""
        return f"{'trial' if self.own_hyperparameters else 'chain'}-{number + 1}"

    def number(self, trial: str) -> int:
        """The number of the trial of this name."""
        return int(trial.rpartition("-")[2]) - 1

    def epochs(self, steps: int, configuration: Configuration) -> int:
        """Epochs that the first so many steps train when no evaluation is repeated or stopped."""
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
    two chains of the same arguments take the same steps. What the memory holds of the chain's own steps is taken as
    it was: so a chain that was interrupted comes back to where it was by taking its steps again.

    Args:
        network: the pruned network, or the dense one where its trainings prune it; its channels are grouped where the
            search asks for it.
        splits: ``train`` and ``validation`` of the search; ``test`` is not read.
        hyperparameters: of every evaluation and of the fine-tuning.
        memory: evaluations of this and other chains.
        course: the steps to take.
        trial: name of the trial, from which the strategy's seed is derived.
        checkpoints: of trainings that are under way.
        start: the assignment that the search begins with; None for the network's own or a random one, as the
            configuration says.
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
        checkpoints: Checkpoints | None = None,
        start: Assignment | None = None,
    ) -> None:
        search, own = configuration.search, derive(configuration.run.seed, "chain", trial)
        self.course = course
        self.trial = trial
        self.iteration = 0
        self._network = network
        self._configuration = configuration
        self._memory = memory
        self._recorded = memory.steps(course.sweep, trial)
        self._trainer: Trainer | None = None
        self._broken = False
        self._together = 1 if search.rungs else TOGETHER  # a rung depends on the evaluations before
        self._ahead: dict[str, Score] = {}  # of candidates that were trained before their turn
        self._spent = 0.0  # core-seconds of the fine-tuning that are accounted for
        self._evaluation = _candidates_training(configuration, splits, hyperparameters, device, checkpoints)
        self._fine_tuning = _long_training(configuration, self._evaluation)
        first = start or network.assignment
        if course.evaluations:
            first = _first_candidate(search, first, start is not None, own)
        self._sites_each = len(network.sites) // len(first)
        self.strategy = make(search, first, own)
        self._rungs = Rungs(search.rungs)

    @property
    def finished(self) -> bool:
        """Whether no step is left: the course is done, or the fine-tuning diverged."""
        return self._broken or self.iteration >= self.course.steps

    @property
    def replaying(self) -> bool:
        """Whether the next step was taken and recorded before."""
        return self.iteration in self._recorded

    def step(self) -> Evaluation:
        """Take the next step and keep it in the memory, or take it from there.

        Raises:
            RuntimeError: the memory holds another candidate for this step than the strategy proposes.
        """
        recorded = self._recorded.get(self.iteration)
        if self.iteration < self.course.evaluations:
            evaluation = self._evaluate_candidate(recorded)
        else:
            evaluation = recorded or self._fine_tune()
            self._broken = evaluation.diverged
            self._spent += evaluation.core_seconds
        if not recorded:
            self._memory.record(evaluation)
        self.iteration += 1
        if self.finished:
            self.forget()
        return evaluation

    @property
    def best(self) -> Assignment:
        """The best assignment of the search so far."""
        return self.strategy.best * self._sites_each

    def network(self) -> Network:
        """The best network of the fine-tuning; the pruned one with the best assignment before it."""
        stretches = self.iteration - self.course.evaluations
        if stretches <= 0:
            return self._network.assign(self.best)
        return self._fine_tuned(stretches).best()

    def _evaluate_candidate(self, recorded: Evaluation | None) -> Evaluation:
        candidate = self.strategy.ask() * self._sites_each
        if recorded:
            self._check(recorded, candidate)
            self.strategy.tell(recorded.cost)
            self._learn(recorded)
            return recorded
        key = evaluation_key(self._network, candidate, self._evaluation)
        known = None if key in self._ahead else self._recall(key)
        score = known or self._score(key)
        cost = self._rungs.expected_cost(score.curve) if score.stopped else score.cost
        accepted = self.strategy.tell(cost)
        evaluation = Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="search",
            key=key,
            assignment=candidate,
            hyperparameters=canonical(self._evaluation.hyperparameters),
            epochs=len(score.curve) if score.stopped else self._evaluation.epochs,
            seed=self._evaluation.seed,
            validation_accuracy=score.validation_accuracy,
            best_accuracy=1 - self.strategy.best_cost,
            cost=cost,
            accepted=accepted,
            diverged=score.diverged,
            repeated=known is not None,
            core_seconds=score.core_seconds,
            curve=score.curve,
        )
        self._learn(evaluation)
        return evaluation

    def _recall(self, key: str) -> Score | None:
        """What the memory has of an evaluation, as if it were trained here; None where too little of it was."""
        known = self._memory.recall(key)
        return Score.of(known, self._evaluation.epochs, self._stop) if known else None

    def _stop(self, curve: Curve) -> bool:
        return self._rungs.stop(curve, self.strategy.limit)

    def _learn(self, evaluation: Evaluation) -> None:
        """Keep what a whole evaluation says about those that follow."""
        if evaluation.epochs == self._evaluation.epochs and not evaluation.diverged:
            self._rungs.learn(evaluation.curve)

    def _score(self, key: str) -> Score:
        """Of the candidate asked for, trained beside those that will be asked for next whatever its cost."""
        if key not in self._ahead:
            self._train_ahead()
        return self._ahead.pop(key)

    def _train_ahead(self) -> None:
        wanted = self._wanted()
        try:
            self._ahead |= dict(zip(wanted, self._trained(list(wanted.values())), strict=False))
        finally:
            self._release(wanted.keys() - self._ahead.keys())

    def _trained(self, candidates: Sequence[Assignment]) -> list[Score]:
        """The scores of all, or of the first alone where they can only be trained one at a time."""
        try:
            return evaluate(self._network, candidates, self._evaluation, self._stop)
        except NotTogetherError:
            self._together = 1
            return evaluate(self._network, candidates[:1], self._evaluation, self._stop)

    def _wanted(self) -> dict[str, Assignment]:
        """The candidate asked for and others to train beside it, by key, which nobody has trained.

        They end before the first that another chain is training.
        """
        left = self.course.evaluations - self.iteration
        first, *others = [
            candidate * self._sites_each for candidate in upcoming(self.strategy, min(self._together, left))
        ]
        wanted = {evaluation_key(self._network, first, self._evaluation): first}
        for candidate in others:
            key = evaluation_key(self._network, candidate, self._evaluation)
            if key in wanted or key in self._ahead:
                continue
            whose = self._memory.claim(key)
            if whose == "another's":
                break  # who trains it may come to wait for those that follow
            if whose == "mine":
                wanted[key] = candidate
        return wanted

    def give_up(self) -> None:
        """Leave what was trained for later steps to others: this chain takes no more here."""
        self._release(self._ahead)
        self._ahead = {}

    def forget(self) -> None:
        """Delete the state of the fine-tuning: this chain takes no more steps anywhere."""
        if self._trainer:
            self._trainer.forget()

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._memory.release(key)

    def _check(self, recorded: Evaluation, candidate: Assignment) -> None:
        if recorded.assignment != candidate:
            step = f"step {self.iteration + 1} of {self.trial}"
            raise RuntimeError(
                f"{step} is recorded as {','.join(recorded.assignment)}, but the strategy proposes "
                f"{','.join(candidate)}: the run was begun by another version, or with other settings"
            )

    def _fine_tune(self) -> Evaluation:
        stretch = self._configuration.finetune.epochs_per_step
        done = self.iteration - self.course.evaluations
        trainer = self._fine_tuned(done + 1)
        return Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="fine-tuning",
            key="",
            assignment=self.best,
            hyperparameters=canonical(self._fine_tuning.hyperparameters),
            epochs=trainer.epoch - done * stretch,
            seed=self._fine_tuning.seed,
            validation_accuracy=trainer.accuracy,
            best_accuracy=trainer.best_accuracy,
            cost=WORST_COST if trainer.diverged else 1 - trainer.accuracy,
            accepted=True,
            diverged=trainer.diverged,
            repeated=False,
            core_seconds=max(0.0, trainer.core_seconds - self._spent),
        )

    def _fine_tuned(self, stretches: int) -> Trainer:
        """The fine-tuning after so many stretches, trained as far as it is not yet."""
        epochs = stretches * self._configuration.finetune.epochs_per_step
        network = self._network.assign(self.best)
        trainer = self._trainer or Trainer(network, self._fine_tuning)
        if trainer.epoch > epochs:  # its checkpoint is younger than what is recorded
            trainer = Trainer(network, replace(self._fine_tuning, checkpoints=None))
        while trainer.epoch < epochs and not trainer.diverged:
            trainer.run_epoch()
        self._trainer = trainer
        return trainer


def _candidates_training(
    configuration: Configuration,
    splits: Splits,
    hyperparameters: Hyperparameters,
    device: torch.device,
    checkpoints: Checkpoints | None,
) -> Training:
    """The short training of every candidate: of all candidates of a run with the same batches."""
    return Training(
        splits,
        hyperparameters,
        configuration.search.epochs,
        derive(configuration.run.seed, "evaluation"),
        device,
        configuration.data,
        configuration.run,
        mask_rule=rule_of(configuration),
        checkpoints=checkpoints,
    )


def _long_training(configuration: Configuration, evaluation: Training) -> Training:
    """The fine-tuning of the best candidate, scales learned."""
    seed = derive(configuration.run.seed, "fine-tuning")
    return replace(evaluation, epochs=configuration.finetune.epochs, seed=seed, learn_scales=True)


def _first_candidate(section: SearchSection, assignment: Assignment, told: bool, seed: int) -> Assignment:
    """What the strategy starts from: the assignment, or a random one, of as many operators as the search chooses.

    Args:
        assignment: of the network, or the one that the search was told to begin with.
        told: whether it was told, so that nothing is drawn.
    """
    if section.granularity == "network":
        assignment = (mode(assignment),)  # the operator proposed goes to every site
    if section.start == "random" and not told:
        return random_assignment(section.operators, len(assignment), random.Random(derive(seed, "start")))
    return assignment
