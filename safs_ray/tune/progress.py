"""What is told while a run goes on, to a person and to machines."""

from __future__ import annotations

import json
import logging
import sys
import time

from safs_ray.log import EVENT, duration, event, log, percent


def lines(verbose: int) -> logging.Handler:
    """Prints what is told on the standard output, a line each with the time of day.

    Args:
        verbose: 0 prints warnings alone.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    return handler


def show_to(*handlers: logging.Handler) -> None:
    """Let these handlers, and no others, take what is told."""
    log.handlers = list(handlers)
    log.setLevel(logging.INFO)
    log.propagate = False


class EventFile(logging.FileHandler):
    """Appends what is logged to a file, a JSON object a line: time, level, message and what events hold."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8")

    def format(self, record: logging.LogRecord) -> str:
        """One line; times are seconds since 1970."""
        values = {"time": record.created, "level": record.levelname.lower(), **record.__dict__.get(EVENT, {})}
        return json.dumps({**values, "message": record.getMessage()})


class Clock:
    """Tells the time that is left from the epochs done since it was started; a plain value, so it pickles."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.done = 0
        self._start = time.monotonic()

    def skip(self, epochs: int) -> None:
        """Take off epochs that were done before the clock was started."""
        self.epochs -= epochs

    @property
    def seconds_left(self) -> float | None:
        """The time left at the pace so far; None before there is one."""
        if not self.done:
            return None
        return (time.monotonic() - self._start) / self.done * max(0, self.epochs - self.done)

    def left(self) -> str:
        """The time left, as a person says it."""
        seconds = self.seconds_left
        return "…" if seconds is None else duration(seconds)


class StageProgress:
    """Lines of the stages that run as tasks: the latest epoch of each, at most one line in five seconds."""

    def __init__(self, epochs: int) -> None:
        self._clock = Clock(epochs)
        self._done: dict[str, int] = {}
        self._printed: dict[str, float] = {}

    def skip(self, stage: str, epochs: int) -> None:
        """Take the news that a stage was made before: its epochs need not be done."""
        self._clock.skip(epochs - self._done.get(stage, 0))
        self._done[stage] = epochs

    def epoch(self, stage: str, epoch: int, epochs: int, accuracy: float) -> None:
        """Take the news that a stage has done an epoch; those that nothing was told of were done before."""
        self._clock.skip(epoch - 1 - self._done.get(stage, 0))
        self._done[stage] = epoch
        self._clock.done += 1
        last = self._printed.get(stage, time.monotonic() if epoch < epochs else 0.0)
        self._printed.setdefault(stage, last)
        if epoch < epochs and time.monotonic() - last < 5:
            return
        self._printed[stage] = time.monotonic()
        log.info(
            "%-15s epoch %3d of %3d   validation %s   %s left here",
            stage, epoch, epochs, percent(accuracy), self._clock.left(),
            extra=event(
                "epoch", stage=stage, epoch=epoch, epochs=epochs, validation_accuracy=accuracy,
                seconds_left=self._clock.seconds_left,
            ),
        )  # fmt: skip
