"""The journal of a sweep: what its driver has decided, on storage before anything follows from it.

A sweep is resumed from its journal and from the evaluations on the board, not from Ray's own state: what was proposed
is proposed again, what ended stays ended, and a trial that was under way takes the steps that it had taken before from
the board. So nothing is read that a crash could have torn, and nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from safs_ray.config import Hyperparameters, counted
from safs_ray.log import event, log
from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Course, Sweep
from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.search.records import journal_of
from safs_ray.storage import Folder

Ending = Literal["finished", "stopped", "diverged", "cut"]
"""How a trial ended: at the end of its course, by ASHA, by a fine-tuning that diverged, or with the run's budget."""


@dataclass(frozen=True)
class Entry:
    """A trial of the sweep.

    Attributes:
        start: the assignment that it starts from, where another trial found it.
        ended: how; None while steps are left.
        steps: that it took, when it has ended.
        accuracy: validation accuracy that it reached, in [0, 1], when it has ended.
    """

    hyperparameters: Hyperparameters
    start: Assignment | None = None
    ended: Ending | None = None
    steps: int = 0
    accuracy: float = 0.0


class Journal:
    """The trials of a sweep by number, in the order in which they were proposed.

    A file that is damaged is set aside, and the journal is empty; :meth:`Past.recover` writes it again.

    Args:
        folder: of the run's journals.
    """

    def __init__(self, folder: Folder, sweep: Sweep) -> None:
        self._folder, self._file = folder, journal_of(sweep)
        self.entries: list[Entry] = []
        if folder.exists(self._file):
            self._read(folder.read(self._file))

    def propose(self, hyperparameters: Hyperparameters, start: Assignment | None = None) -> int:
        """Add a trial; returns its number."""
        self.entries.append(Entry(hyperparameters, start))
        self._write()
        return len(self.entries) - 1

    def end(self, number: int, ending: Ending, steps: int, accuracy: float) -> None:
        """Say how a trial ended."""
        self.entries[number] = replace(self.entries[number], ended=ending, steps=steps, accuracy=accuracy)
        self._write()

    def reopen(self) -> None:
        """Let the trials go on that ended with the budget."""
        self.entries = [
            Entry(entry.hyperparameters, entry.start) if entry.ended == "cut" else entry for entry in self.entries
        ]
        self._write()

    def _read(self, text: bytes) -> None:
        try:
            self.entries = [_entry(values) for values in json.loads(text)["trials"]]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("warning: %s/%s is damaged (%s); set aside", self._folder, self._file, error)
            self._folder.set_aside(self._file)
            self.entries = []

    def _write(self) -> None:
        trials = [{**vars(entry), "hyperparameters": vars(entry.hyperparameters)} for entry in self.entries]
        # On one line: with indentation Python encodes JSON by itself, which takes long for a thousand trials.
        self._folder.write(self._file, json.dumps({"trials": trials}).encode())


def _entry(values: dict[str, Any]) -> Entry:
    start = tuple(values["start"]) if values.get("start") else None
    return Entry(**{**values, "hyperparameters": Hyperparameters(**values["hyperparameters"]), "start": start})


class Past:
    """What a sweep has behind it: its journal, and the steps of its trials that the board has kept."""

    def __init__(self, course: Course, journal: Journal, evaluations: Sequence[Evaluation]) -> None:
        self.course, self.journal = course, journal
        self._ledger = Ledger(evaluations)

    def recover(self, propose: Callable[[int], Hyperparameters], shared: bool) -> None:
        """Add the trials whose steps are recorded, but which the journal has lost.

        Args:
            propose: the hyperparameters of a trial without any step among those that have some.
            shared: whether trials start from assignments that others have found.
        """
        recorded = [self.course.number(trial) for trial in self._ledger.trials(self.course.sweep)]
        for number in range(len(self.journal.entries), max(recorded, default=-1) + 1):
            first = self.steps(number).get(0)
            if not first:
                self.journal.propose(propose(number))
            else:
                start = first.assignment if shared and first.phase == "search" else None
                self.journal.propose(Hyperparameters.model_validate_json(first.hyperparameters), start)

    @cached_property
    def complete(self) -> list[int]:
        """The numbers of the trials that have ended for good, and whose steps are all there."""
        return [number for number, entry in enumerate(self.journal.entries) if self._is_done(number, entry)]

    def _is_done(self, number: int, entry: Entry) -> bool:
        shorter = entry.ended == "finished" and entry.steps < self.course.steps  # by a max_t that was raised
        return entry.ended is not None and not shorter and len(self.steps(number)) >= entry.steps

    @property
    def unfinished(self) -> list[int]:
        """The numbers of the trials that had begun and have to go on, or to take steps again that were lost."""
        complete = set(self.complete)
        return [number for number in range(len(self.journal.entries)) if number not in complete]

    def cut(self) -> Past:
        """The past of a sweep whose budget has ended: so have the trials with any steps, where these end."""
        for number in self.unfinished:
            if steps := self.steps(number):
                self.journal.end(number, "cut", len(steps), steps[max(steps)].best_accuracy)
        return Past(self.course, self.journal, self._ledger.evaluations)

    def steps(self, number: int) -> dict[int, Evaluation]:
        """The recorded steps of a trial by iteration."""
        return self._ledger.steps(self.course.sweep, self.course.trial(number))

    def accuracies(self, number: int) -> dict[int, float]:
        """What ASHA was details of a trial, by step from 1."""
        return {iteration + 1: step.best_accuracy for iteration, step in self.steps(number).items()}

    def best_assignment(self, number: int) -> Assignment:
        """The best assignment of a trial that is done."""
        steps = self.steps(number)
        last = steps[max(steps)]
        if last.phase == "fine-tuning":
            return last.assignment
        return min((steps[iteration] for iteration in sorted(steps)), key=lambda step: step.cost).assignment

    def announce(self, trials: int) -> None:
        """Say what begins or goes on."""
        details = event("sweep", sweep=self.course.sweep, trials=trials, steps=self.course.steps)
        plan = f"{counted(trials, 'trial')} of at most {counted(self.course.steps, 'step')}"
        log.info("%s: %s", self.course.sweep, plan, extra=details)
        if self.journal.entries:
            done, left = len(self.complete), len(self.unfinished)
            kept = sum(len(self.steps(number)) for number in range(done + left))
            ended = f"{counted(done, 'trial')} {'has' if done == 1 else 'have'} ended, {left} had begun"
            log.info("resuming: %s, their %s %s kept", ended, counted(kept, "step"), "is" if kept == 1 else "are")
