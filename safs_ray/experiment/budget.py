"""The time that an experiment may take, and what it was too short for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

Keep = Callable[[], None]
"""Puts a budget down where a crash does not reach it."""


def _nothing() -> None:
    """What keeps a budget that lives as long as the process does."""


class Budget:
    """The time that an experiment may take; without seconds, any.

    What it was once too short for stays left out, however the experiment goes on: so a resumed one ends as it would
    have ended.

    Args:
        seconds: of all sessions of the experiment together.
        spent: seconds of the sessions before this one.
        left_out: names of stages and sweeps that there was no time for in these.
        began: when this session began, by :func:`time.monotonic`; None for now.
    """

    def __init__(
        self,
        seconds: float = math.inf,
        spent: float = 0.0,
        left_out: Iterable[str] = (),
        began: float | None = None,
    ) -> None:
        self.seconds, self.left_out = seconds, list(left_out)
        self.keep: Keep = _nothing
        self._began = (time.monotonic() if began is None else began) - spent

    @property
    def spent(self) -> float:
        """Seconds, until now."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds, from now on; negative beyond the end."""
        return self.seconds - self.spent

    def __getstate__(self) -> dict[str, Any]:
        """Without what keeps it: Tune writes down a copy of all that it is given."""
        return {**vars(self), "keep": _nothing}

    def leave_out(self, name: str) -> None:
        """Leave a stage or a sweep out for good."""
        self.left_out.append(name)
        self.keep()
