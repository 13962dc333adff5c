"""Which trials a sweep runs: those that were under way when it was interrupted, then new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.randomness import derive
from safs_ray.search import parzen
from safs_ray.search.assignment import Assignment
from safs_ray.tune import space
from safs_ray.tune.journal import Ending, Past

TRIAL = "trial"
"""Key of a trial's name in its config."""

START = "start"
"""Key of the assignment that a trial starts from, its operators joined by commas, where another trial found it."""

METRIC = "best_accuracy"
"""What trials are compared by: the highest validation accuracy of a trial's phase so far."""

GAMMA = 0.25
"""Of the Parzen estimator, as Ray's own wrapper of HyperOpt has it."""

Propose = Callable[[int, Sequence[tuple[Hyperparameters, float]]], Hyperparameters]
"""The hyperparameters of a trial from its number and from the accuracies of those that have ended."""


def search_space(configuration: Configuration, earlier: Sequence[tuple[Hyperparameters, float]] = ()) -> Propose:
    """TPE, or random draws, whose first proposal is the default hyperparameters.

    A proposal follows from the run's seed, its number and the trials that have ended.

    Args:
        earlier: trials of another run and their accuracies; those that lie in the space are learned from.
    """
    section, default = configuration.tune, configuration.pruning.hyperparameters
    domain = space.build(section.space)
    drawn = max(3, section.trials // 4)

    known = [(chosen, accuracy) for chosen, accuracy in earlier if space.nearest(chosen, section.space) == chosen]

    def propose(number: int, ended: Sequence[tuple[Hyperparameters, float]]) -> Hyperparameters:
        if number == 0:
            return space.nearest(default, section.space)
        seed = derive(configuration.run.seed, "hyperopt", number)
        if section.searcher == "random" or number + len(known) < drawn or not (known or ended):
            values = parzen.draw(domain, seed)
        else:
            evaluated = [
                (space.values(chosen, section.space, domain), 1 - accuracy) for chosen, accuracy in [*known, *ended]
            ]
            values = parzen.propose(domain, evaluated, seed, GAMMA)
        return space.hyperparameters(values, section.space, domain, default)

    return propose


def default_only(configuration: Configuration) -> Propose:
    """Chains of stage 1, which all have the default hyperparameters."""
    return lambda _number, _ended: configuration.pruning.hyperparameters


class Proposals(Searcher):
    """Gives Tune the trials of a sweep, and writes into the journal which it gave and how they ended.

    Args:
        past: of the sweep; what is done is not run again.
        count: trials of the sweep, those in the past included.
        propose: the hyperparameters of those that are not in the journal.
        start: the assignment that these start from; None for what the configuration says.
    """

    def __init__(self, past: Past, count: int, propose: Propose, start: Callable[[], Assignment | None]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._journal, self._course, self._count = past.journal, past.course, count
        self._propose, self._start = propose, start
        self._waiting = past.left
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """The config of the next trial."""
        if self._waiting:
            number = self._waiting.pop(0)
        elif len(self._journal.entries) == self._count:
            return Searcher.FINISHED
        else:
            told = [(entry.hyperparameters, entry.accuracy) for entry in self._journal.entries if entry.ended]
            number = self._journal.propose(self._propose(len(self._journal.entries), told), self._start())
        self._numbers[trial_id] = number
        entry = self._journal.entries[number]
        given = {START: ",".join(entry.start)} if entry.start else {}
        return {TRIAL: self._course.trial(number), "hyperparameters": entry.hyperparameters.model_dump(), **given}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing follows from a trial before its end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Write down how a trial ended; one that failed, or that was interrupted, has not ended."""
        number = self._numbers.pop(trial_id)
        if result and result["done"] and not error:
            steps = result["training_iteration"]
            self._journal.end(number, self._ending(result, steps), steps, result[METRIC])

    def _ending(self, result: dict[str, Any], steps: int) -> Ending:
        if result["fine_tuning"] and result["diverged"]:
            return "diverged"
        return "finished" if steps == self._course.steps else "stopped"

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is on storage already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is resumed from its journal."""
