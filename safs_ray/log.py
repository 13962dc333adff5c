"""What an experiment says while it goes on: lines for a person, with events in them for machines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

log = logging.getLogger("safs_ray")

EVENT = "event"


def event(kind: str, **values: object) -> dict[str, Any]:
    """What a machine is told of a line that a person reads, for ``extra`` of :data:`log`."""
    return {EVENT: {"event": kind, **values}}


def percent(fraction: float) -> str:
    """A fraction as a person reads it."""
    return f"{100 * fraction:5.1f} %"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def lines(verbose: int) -> logging.Handler:
    """Prints what is told on the standard output, a line each with the time of day.

    Args:
        verbose: 0 prints warnings alone.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    return handler


class EventFile(logging.FileHandler):
    """Appends what is logged to a file, a JSON object a line: time, level, message and what events hold."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8")

    def format(self, record: logging.LogRecord) -> str:
        """One line; times are seconds since 1970."""
        values = {"time": record.created, "level": record.levelname.lower(), **record.__dict__.get(EVENT, {})}
        return json.dumps({**values, "message": record.getMessage()})
