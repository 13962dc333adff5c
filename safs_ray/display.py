"""Where what is told goes: to a person, as lines or as a table that changes with every step, and to a file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from safs_ray.config import RunSection
from safs_ray.log import EVENT, EventFile, duration, lines, log, percent
from safs_ray.storage import blaming

LATEST = 12
"""Trials or stages that are shown at most: those of the latest news."""

PLAIN: dict[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
"""How tables look."""

Event = dict[str, Any]
"""An event, as :func:`safs_ray.log.event` makes it."""


@contextmanager
def telling(section: RunSection, console: Console) -> Iterator[None]:
    """Tell what happens: in a terminal as a table, elsewhere as lines, and to ``run.events``.

    Raises:
        ConfigurationError: ``run.events`` cannot be written.
    """
    before = log.handlers, log.level, log.propagate
    with ExitStack() as open_files:
        handlers: list[logging.Handler] = []
        if section.events:
            with blaming("run.events", section.events):
                handlers.append(open_files.enter_context(closing(EventFile(section.events))))
        live = section.verbose and sys.stdout.isatty() and not console.is_dumb_terminal
        handlers.append(open_files.enter_context(LiveTable(console)) if live else lines(section.verbose))
        try:
            log.handlers, log.propagate = handlers, False
            log.setLevel(logging.INFO)
            yield
        finally:
            log.handlers, log.propagate = before[0], before[2]
            log.setLevel(before[1])


@dataclass(frozen=True)
class Display:
    """What the table shows; never changed but replaced, for another thread draws it.

    Attributes:
        sweep: the event that the sweep under way began with; None where stages are shown.
        rows: the latest event of each trial or stage, that of the latest news last.
        best: the step of the highest accuracy.
    """

    sweep: Event | None
    rows: dict[str, Event]
    best: Event | None


class LiveTable(logging.Handler):
    """Shows the events of steps and epochs as a table of trials or stages, and prints all other messages above it.

    It is a context manager: the table is gone at its end, and the terminal as it was.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._display = Display(None, {}, None)
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message. What goes wrong here stays here: a trial must not fail for it."""
        try:
            self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        event: Event = record.__dict__.get(EVENT, {})
        match event.get("event"):
            case "epoch":
                self._row(event["stage"], event)
                return
            case "step":
                self._row(event["trial"], event)
                return
            case "ended":
                if before := self._display.rows.get(event["trial"]):  # none of a trial that took only recorded steps
                    self._row(event["trial"], {**before, "state": _state(event["why"])})
                return
            case "sweep":
                self._display = Display(event, {}, None)
            case "finalists" | "won" | "final evaluation" | "finished":
                self._display = Display(None, {}, None)
        at = logging.Formatter().formatTime(record, "%H:%M:%S")
        style = "yellow" if record.levelno >= logging.WARNING else ""
        self._live.console.print(Text(f"{at}  {record.getMessage()}", style), soft_wrap=True)

    def _row(self, name: str, event: Event) -> None:
        """Bring a row up to date; that of the latest news is the last."""
        shown = self._display
        rows = {other: row for other, row in shown.rows.items() if other != name} | {name: event}
        best = shown.best
        if shown.sweep and (not best or event["best_accuracy"] > best["best_accuracy"]):
            best = event
        self._display = Display(shown.sweep, rows, best)

    def _drawn(self) -> RenderableType:
        shown = self._display
        rows, sweep, best = shown.rows, shown.sweep, shown.best
        if not rows:
            return Text("")
        seconds = list(rows.values())[-1]["seconds_left"]
        left = "" if seconds is None else f", {duration(seconds)} left"
        latest = dict(sorted(list(rows.items())[-LATEST:], key=lambda row: _number(row[0])))
        if not sweep:
            return Group(_stages(latest), Text(left.removeprefix(", "), "dim"))
        leader = f"best {percent(best['best_accuracy']).strip()} by {best['trial']}" if best else "nothing found yet"
        return Group(_trials(latest, sweep), Text(f"{leader}{left}", "dim"))


def _state(why: str) -> str:
    """What has become of a trial that took not all its steps, in a word."""
    return next((state for word, state in (("ASHA", "stopped"), ("budget", "cut")) if word in why), "diverged")


def _number(name: str) -> tuple[str, int]:
    """Orders trial-10 after trial-9."""
    word, _, number = name.rpartition("-")
    return (word, int(number)) if number.isdigit() else (name, 0)


def _trials(rows: dict[str, Event], sweep: Event) -> Table:
    columns = (
        "trial", "", Column("step", justify="right"), "doing", Column("validation", justify="right"),
        Column("its best", justify="right"), Column("operators", overflow="ellipsis", no_wrap=True),
    )  # fmt: skip
    table = Table(*columns, title=sweep["sweep"], title_justify="left", title_style="bold", **PLAIN)
    for name, event in rows.items():
        ended = event.get("state") or ("done" if event["step"] == sweep["steps"] else "")
        table.add_row(
            name, _bar(event["step"], sweep["steps"]), f"{event['step']}/{sweep['steps']}", ended or event["phase"],
            percent(event["validation_accuracy"]), percent(event["best_accuracy"]),
            event["assignment"].replace(",", " "),
            style="dim" if ended else "",
        )  # fmt: skip
    return table


def _stages(rows: dict[str, Event]) -> Table:
    table = Table("stage", "", Column("epoch", justify="right"), Column("validation", justify="right"), **PLAIN)
    for name, event in rows.items():
        table.add_row(
            name, _bar(event["epoch"], event["epochs"]), f"{event['epoch']}/{event['epochs']}",
            percent(event["validation_accuracy"]), style="dim" if event["epoch"] == event["epochs"] else "",
        )  # fmt: skip
    return table


def _bar(done: int, of: int, width: int = 16) -> Text:
    filled = width * done // of
    return Text.assemble(("━" * filled, "cyan"), ("━" * (width - filled), "bright_black"))
