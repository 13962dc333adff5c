"""What of its budget a run has spent, and what it was too short for, in the run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any

from safs_ray.config import Configuration
from safs_ray.experiment.budget import Budget
from safs_ray.search.course import Sweep
from safs_ray.search.records import JOURNALS, journal_of
from safs_ray.storage import DamagedError, Folder
from safs_ray.tune.journal import Journal

BUDGET = "budget.json"
"""File of the journals."""

OFTEN = 100
"""How often it is written while a run spends its budget, at most once a second."""


@contextmanager
def spending(configuration: Configuration, folder: Folder, began: float) -> Iterator[Budget]:
    """The budget of a run; what of it is spent is written down now and again, and in the end.

    A run that is killed has spent what was written down last.

    Args:
        began: when this session began, by :func:`time.monotonic`.
    """
    seconds = configuration.run.budget_seconds
    known = _read(folder)
    budget = Budget(seconds, known.get("spent", 0.0), known.get("left_out", []), began)
    if math.isinf(seconds):
        yield budget
        return
    lock = Lock()

    def keep() -> None:
        with lock:  # what is written last is the latest
            (folder / JOURNALS).write_json(BUDGET, {"spent": budget.spent, "left_out": list(budget.left_out)})

    budget.keep = keep
    over = Event()
    writer = Thread(target=_keep, args=(budget, over, max(1.0, seconds / OFTEN)), daemon=True)
    writer.start()
    try:
        yield budget
    finally:
        over.set()
        writer.join()
        with suppress(OSError):  # the run has ended for this reason, and says so
            budget.keep()


def reopen(folder: Folder) -> None:
    """Let a run go on with what its budget was too short for."""
    for sweep in Sweep:
        if folder.exists(f"{JOURNALS}/{journal_of(sweep)}"):
            Journal(folder / JOURNALS, sweep).reopen()
    if known := _read(folder):
        (folder / JOURNALS).write_json(BUDGET, {**known, "left_out": []})


def _keep(budget: Budget, over: Event, seconds: float) -> None:
    while not over.wait(seconds):
        with suppress(OSError):
            budget.keep()


def _read(folder: Folder) -> dict[str, Any]:
    """What was written down; nothing where nothing was, or where it is damaged."""
    with suppress(FileNotFoundError, DamagedError, TypeError, ValueError):
        return dict((folder / JOURNALS).read_json(BUDGET))
    return {}
