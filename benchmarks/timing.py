"""Time several ways to do one thing that take turns, so that what else the machine does is shared by all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

Run = Callable[[], object]


def medians(
    ways: Sequence[Run],
    seconds: float = 0.0,
    turns: int = 3,
    calls: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Median seconds of each way, whose first turn is not counted.

    Args:
        seconds: wall time after which no further turn begins, once there were ``turns``.
        calls: of a turn; the last half, but one at least, is timed as a whole, those before it bring what they need
            into the caches.
        clock: seconds of a core, or of the wall where several cores share the work.
    """
    timed = max(1, calls // 2)
    for run in ways:
        run()
    times: list[list[float]] = [[] for _ in ways]
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[0]) < turns:
        for run, own in zip(ways, times, strict=True):
            for _ in range(calls - timed):
                run()
            start = clock()
            for _ in range(timed):
                run()
            own.append((clock() - start) / timed)
    return [median(own) for own in times]
