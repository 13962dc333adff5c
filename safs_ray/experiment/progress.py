"""What an experiment says while it goes on: what is done, and how long the rest will take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from safs_ray.config import Configuration
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.forecasting import END, expected_steps
from safs_ray.experiment.stage import FINAL, PRUNERS, Stage, part_of
from safs_ray.log import duration, event, log, percent
from safs_ray.search.course import Course
from safs_ray.search.evaluation import Evaluation

SECONDS_BETWEEN = 5
"""Between two lines of a stage."""

BUDGET_ENDED = "the budget leaves it no more time"
"""Why a trial has ended that neither ASHA nor a divergence stopped."""

BELIEF = 0.25
"""The part of a forecast after which it is what was measured of late that counts."""


class Clock:
    """Tells how long an experiment will still take: what is left of its forecast, at the pace of late.

    Args:
        forecast: seconds of each part, as of :func:`safs_ray.experiment.forecasting.forecast`.
        budget: that the experiment has to end in.
    """

    def __init__(self, forecast: Mapping[str, float], budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._left = dict(forecast)
        self._memory = max(BELIEF * sum(forecast.values()), 1e-3)
        self._done = self._took = self._memory  # at first the forecast is believed
        self._last = time.monotonic()

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of the forecast that are left of each part."""
        return dict(self._left)

    def left(self, part: str) -> float:
        """Seconds of the forecast that are left of a part."""
        return self._left.get(part, 0.0)

    def advance(self, part: str, seconds: float) -> None:
        """Take the news that so many seconds of the forecast were done just now."""
        now, fading = time.monotonic(), math.exp(-seconds / self._memory)
        self._took = fading * self._took + now - self._last
        self._done = fading * self._done + seconds
        self.expect(part, self.left(part) - seconds)

    def expect(self, part: str, seconds: float) -> None:
        """Take the news that so many seconds of the forecast are left of a part; the time until now does not count."""
        if part in self._left:
            self._left[part] = max(0.0, seconds)
        self._last = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Seconds until the end of the experiment."""
        return sum(self._left.values()) * self._pace

    @property
    def _pace(self) -> float:
        """Seconds that a second of the forecast takes."""
        return self._took / self._done

    def time_for(self, part: str) -> float:
        """Seconds that are left for a part, so that what has to follow it still fits into the budget."""
        names = list(self._left)
        later = names[names.index(part) + 1 :] if part in names else []
        return self.budget.left - sum(self._left[name] for name in later if follows(name, part)) * self._pace

    def leaves_out(self, name: str) -> bool:
        """Whether there is no time for a stage or for more of a sweep, now or earlier."""
        if name in self.budget.left_out:
            return True
        if self.time_for(part_of(name)) > 0:
            return False
        self.budget.leave_out(name)
        return True

    def words(self) -> str:
        """The time left, as a person says it; nothing without a forecast."""
        return f"{duration(self.seconds_left)} left" if self._left else ""


def follows(later: str, part: str) -> bool:
    """Whether a part is worth no less than one before it, which then leaves time for it.

    A better pruner is worth more than the search, so the choice of a pruner may take its time.
    """
    return not part.startswith(PRUNERS) or later.startswith(PRUNERS) or later in (FINAL, END)


class StageProgress:
    """Tells of the epochs of stages, a line each at most every five seconds.

    News of a task whose process was killed may come late, even after its stage; it is dropped.

    Args:
        stages: those that run beside each other.
    """

    def __init__(self, stages: Sequence[Stage], clock: Clock) -> None:
        self._clock = clock
        self._stages = {stage.name: stage for stage in stages}
        self._done: dict[str, int] = {}
        epochs: dict[str, int] = {}
        for stage in stages:
            epochs[stage.part] = epochs.get(stage.part, 0) + stage.epochs
        self._seconds = {part: clock.left(part) / count if count else 0.0 for part, count in epochs.items()}
        self._printed: dict[str, float] = {}

    def skip(self, name: str) -> None:
        """Take the news that a stage was done before."""
        if name in self._stages:
            self._expect(self._stages[name], self._stages[name].epochs)

    def late(self, name: str, epoch: int, accuracy: float) -> None:
        """Take the news that a stage had done an epoch before; only its last one is told."""
        if name in self._stages:
            self._expect(self._stages[name], epoch)
            if epoch == self._stages[name].epochs:
                self._tell(name, epoch, accuracy)

    def epoch(self, name: str, epoch: int, accuracy: float) -> None:
        """Take the news that a stage has done an epoch; those before the first news of it were done before."""
        if name not in self._stages:
            return
        stage, now = self._stages[name], time.monotonic()
        if epoch > 1 and name not in self._done:
            self._expect(stage, epoch)  # it goes on from before: nobody knows when this epoch began
        elif (more := epoch - self._done.get(name, 0)) > 0:  # news may overtake each other
            self._clock.advance(stage.part, more * self._seconds[stage.part])
            self._done[name] = epoch
        last = self._printed.setdefault(name, now if epoch < stage.epochs else 0.0)
        if epoch < stage.epochs and now - last < SECONDS_BETWEEN:
            return
        self._printed[name] = now
        self._tell(name, epoch, accuracy)

    def _tell(self, name: str, epoch: int, accuracy: float) -> None:
        epochs = self._stages[name].epochs
        log.info(
            "%-15s epoch %3d of %3d   validation %s   %s",
            name, epoch, epochs, percent(accuracy), self._clock.words(),
            extra=event(
                "epoch", stage=name, epoch=epoch, epochs=epochs, validation_accuracy=accuracy,
                seconds_left=self._clock.seconds_left,
            ),
        )  # fmt: skip

    def _expect(self, stage: Stage, epochs: int) -> None:
        """Take off the epochs up to this one, which were done before."""
        if (before := epochs - self._done.get(stage.name, 0)) > 0:
            self._clock.expect(stage.part, self._clock.left(stage.part) - before * self._seconds[stage.part])
            self._done[stage.name] = epochs


class SweepProgress:
    """Tells of the steps of a sweep, a line each.

    Args:
        done: how many of its trials were done before; not all.
        best: the best accuracy of those.
        told: how many steps of others were taken before, of which nothing more is told.
    """

    def __init__(
        self,
        configuration: Configuration,
        course: Course,
        trials: int,
        clock: Clock,
        done: int = 0,
        best: float = -math.inf,
        told: Mapping[str, int] | None = None,
    ) -> None:
        self._configuration, self._course, self._trials, self._clock = configuration, course, trials, clock
        self._best, self._ended = best, done
        self._running: dict[str, int] = {}
        self._told = dict(told or {})
        self._expected = expected_steps(configuration, course, trials)
        self._seconds = clock.left(course.sweep) / ((trials - done) * self._rest(0))  # of an epoch
        self._expect()

    def step(self, trial: str, step: int, result: Mapping[str, Any], recorded: bool = False) -> None:
        """Take the news that a trial has taken a step.

        Args:
            step: its number, from 1.
            result: what :data:`NEWS` has of the evaluation.
            recorded: whether it was taken before, or by a process that died: it took no time just now.
        """
        epochs = self._epochs(step) - self._epochs(self._running.get(trial, 0))
        self._running[trial] = step
        self._best = max(self._best, result["best_accuracy"])
        if not recorded:
            self._clock.advance(self._course.sweep, epochs * self._seconds)
        self._expect()
        if step <= self._told.get(trial, 0):
            return
        self._told[trial] = step
        log.info(
            "%-8s of %d  step %2d of %2d  %-11s  validation %s  trial %s  best %s  %-8s  %s",
            trial, self._trials, step, self._course.steps, result["phase"],
            percent(result["validation_accuracy"]), percent(result["best_accuracy"]), percent(self._best),
            _verdict(result), self._clock.words(),
            extra=event(
                "step", **self._named(trial), step=step, seconds_left=self._clock.seconds_left,
                **{key: result[key] for key in NEWS},
            ),
        )  # fmt: skip

    def end(self, trial: str, why: str) -> None:
        """Take the news that a trial has ended.

        Args:
            why: it took no more steps; empty when it took all.
        """
        step = self._running.pop(trial, 0)
        self._ended += 1
        self._expect()
        if why:
            details = event("ended", **self._named(trial), step=step, why=why)
            log.info("%-8s ended after step %d: %s", trial, step, why, extra=details)

    def fail(self, trial: str) -> None:
        """Take the news that a trial has failed; it may be tried again."""
        log.info("%-8s failed", trial, extra=event("failed", **self._named(trial)))

    def _named(self, trial: str) -> dict[str, Any]:
        return {"sweep": self._course.sweep, "trial": trial}

    def _epochs(self, steps: int) -> int:
        return self._course.epochs(steps, self._configuration)

    def _expect(self) -> None:
        """Let the clock know how much is left."""
        waiting = self._trials - self._ended - len(self._running)
        epochs = max(0, waiting) * self._rest(0) + sum(self._rest(step) for step in self._running.values())
        self._clock.expect(self._course.sweep, epochs * self._seconds)

    def _rest(self, step: int) -> float:
        """How many epochs a trial is expected to train after a step."""
        further = [steps for steps in self._expected if steps > step] or [max(step, self._course.steps)]
        return mean(map(self._epochs, further)) - self._epochs(step)


NEWS = (
    "phase", "assignment", "validation_accuracy", "best_accuracy", "cost", "accepted", "repeated", "diverged"
)  # fmt: skip
"""What the event of a step has of its evaluation."""


def news_of(evaluation: Evaluation) -> dict[str, Any]:
    """What is told of an evaluation, in values that files for events can hold."""
    return {
        "best_accuracy": evaluation.best_accuracy,
        "validation_accuracy": evaluation.validation_accuracy,
        "cost": evaluation.cost,
        "accepted": int(evaluation.accepted),
        "repeated": int(evaluation.repeated),
        "diverged": int(evaluation.diverged),
        "phase": evaluation.phase,
        "assignment": ",".join(evaluation.assignment),
    }


def _verdict(result: Mapping[str, Any]) -> str:
    if result["diverged"]:
        return "diverged"
    if result["repeated"]:
        return "known"
    return "accepted" if result["accepted"] else "rejected"
