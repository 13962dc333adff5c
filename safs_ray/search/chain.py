"""A chain: what one trial does, one step at a time."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import mode

from safs_ray.config import Hyperparameters, SearchSection
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.schedules import rule_of
from safs_ray.search.assignment import Assignment, random_assignment
from safs_ray.search.course import Course
from safs_ray.search.evaluation import Evaluation, Memory, canonical
from safs_ray.search.evaluator import Evaluator
from safs_ray.search.fine_tuning import FineTuning
from safs_ray.search.strategy import make, upcoming
from safs_ray.training import Context, Training, sparse_training


class Chain:
    """Evaluates candidates, then fine-tunes the best of them with learnable scales, as its course says.

    Everything that happens follows from the arguments: two chains of the same arguments take the same steps. What the
    memory holds of the chain's own steps is taken as it was: so a chain that was interrupted comes back to where it was
    by taking its steps again.

    Args:
        network: the pruned network, or the dense one where its trainings prune it; its channels are grouped where the
            search asks for it.
        context: its splits are those of the search; ``test`` is not read.
        hyperparameters: of every evaluation and of the fine-tuning.
        memory: evaluations of this and other chains.
        course: the steps to take.
        trial: name of the trial, from which the strategy's seed is derived.
        start: the assignment that the search begins with; None for the network's own or a random one, as the
            configuration says.
    """

    def __init__(
        self,
        network: Network,
        context: Context,
        hyperparameters: Hyperparameters,
        memory: Memory,
        course: Course,
        trial: str,
        start: Assignment | None = None,
    ) -> None:
        search, own = context.configuration.search, derive(context.seed, "chain", trial)
        self.course, self.trial, self.iteration = course, trial, 0
        self._network, self._context, self._memory = network, context, memory
        self._recorded = memory.steps(course.sweep, trial)
        self._evaluator = Evaluator(network, _short_training(network, context, hyperparameters), memory)
        self._fine_tuning: FineTuning | None = None
        self._diverged = False
        first = start or network.assignment
        if course.evaluations:
            first = _first_candidate(search, first, start is not None, own)
        self._sites_each = len(network.sites) // len(first)
        self.strategy = make(search, first, own)

    @property
    def finished(self) -> bool:
        """Whether no step is left: the course is done, or the fine-tuning diverged."""
        return self._diverged or self.iteration >= self.course.steps

    @property
    def replaying(self) -> bool:
        """Whether the next step was taken and recorded before."""
        return self.iteration in self._recorded

    @property
    def best(self) -> Assignment:
        """The best assignment of the search so far."""
        return self.strategy.best * self._sites_each

    def step(self) -> Evaluation:
        """Take the next step and keep it in the memory, or take it from there.

        Raises:
            RuntimeError: the memory holds another candidate for this step than the strategy proposes.
        """
        recorded = self._recorded.get(self.iteration)
        searching = self.iteration < self.course.evaluations
        evaluation = self._evaluate(recorded) if searching else self._fine_tune(recorded)
        if not recorded:
            self._memory.record(evaluation)
        self.iteration += 1
        if self.finished:
            self.forget()
        return evaluation

    def network(self) -> Network:
        """The best network of the fine-tuning; the pruned one with the best assignment before it."""
        stretches = self.iteration - self.course.evaluations
        return self._tuned.after(stretches).standing.best if stretches > 0 else self._network.assign(self.best)

    def give_up(self) -> None:
        """Leave what was trained for later steps to others: this chain takes no more here."""
        self._evaluator.release()

    def forget(self) -> None:
        """Delete the state of the fine-tuning: this chain takes no more steps anywhere."""
        if self._fine_tuning:
            self._fine_tuning.forget()

    def _evaluate(self, recorded: Evaluation | None) -> Evaluation:
        """Ask the strategy for a candidate, evaluate it, and tell the strategy its cost."""
        candidate = self.strategy.ask() * self._sites_each
        if recorded:
            self._check(recorded, candidate)
            self.strategy.tell(recorded.cost)
            return recorded
        score, training = self._evaluator.score(candidate, self._upcoming), self._evaluator.training
        accepted = self.strategy.tell(score.cost)
        return Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="search",
            key=self._evaluator.key(candidate),
            assignment=candidate,
            hyperparameters=canonical(training.hyperparameters),
            epochs=training.epochs,
            seed=training.seed,
            validation_accuracy=score.validation_accuracy,
            best_accuracy=1 - self.strategy.best_cost,
            cost=score.cost,
            accepted=accepted,
            diverged=score.diverged,
            repeated=score.repeated,
            core_seconds=score.core_seconds,
            curve=score.curve,
        )

    def _upcoming(self, most: int) -> list[Assignment]:
        """The candidate asked for, and those that will be asked for next whatever its cost, at most so many."""
        left = self.course.evaluations - self.iteration
        return [candidate * self._sites_each for candidate in upcoming(self.strategy, min(most, left))]

    def _check(self, recorded: Evaluation, candidate: Assignment) -> None:
        if recorded.assignment != candidate:
            step = f"step {self.iteration + 1} of {self.trial}"
            raise RuntimeError(
                f"{step} is recorded as {','.join(recorded.assignment)}, but the strategy proposes "
                f"{','.join(candidate)}: the run was begun by another version, or with other settings"
            )

    def _fine_tune(self, recorded: Evaluation | None) -> Evaluation:
        """A stretch of the fine-tuning."""
        evaluation = recorded or self._stretch()
        self._diverged = evaluation.diverged
        self._tuned.account(evaluation.core_seconds)
        return evaluation

    def _stretch(self) -> Evaluation:
        stretch = self._context.configuration.finetune.epochs_per_step
        done = self.iteration - self.course.evaluations
        trainer = self._tuned.after(done + 1)
        standing, training = trainer.standing, self._tuned.training
        return Evaluation(
            sweep=self.course.sweep,
            trial=self.trial,
            iteration=self.iteration,
            phase="fine-tuning",
            key="",
            assignment=self.best,
            hyperparameters=canonical(training.hyperparameters),
            epochs=trainer.epoch - done * stretch,
            seed=training.seed,
            validation_accuracy=standing.accuracy,
            best_accuracy=standing.best_accuracy,
            cost=1 - standing.accuracy,
            accepted=True,
            diverged=standing.diverged,
            repeated=False,
            core_seconds=self._tuned.unaccounted,
        )

    @property
    def _tuned(self) -> FineTuning:
        """The fine-tuning of the best candidate, from the pruned weights again."""
        if self._fine_tuning is None:
            section, seed = self._context.configuration.finetune, derive(self._context.seed, "fine-tuning")
            average = self._context.configuration.training.average
            training = replace(
                self._evaluator.training, epochs=section.epochs, seed=seed, learn_scales=True, average=average
            )
            self._fine_tuning = FineTuning(self._network.assign(self.best), training, section.epochs_per_step)
        return self._fine_tuning


def _short_training(network: Network, context: Context, hyperparameters: Hyperparameters) -> Training:
    """The training of every candidate: of all candidates of a run with the same batches."""
    configuration, seed = context.configuration, derive(context.seed, "evaluation")
    epochs, rule = configuration.search.epochs, rule_of(configuration, network)
    return replace(sparse_training(context, hyperparameters, epochs, seed, mask_rule=rule), average=0.0)


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
