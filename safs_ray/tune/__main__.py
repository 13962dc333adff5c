"""``python -m safs_ray.tune [CONFIG.yaml] [key.path=value …]``, or with ``--resume RUN`` in place of a configuration.

Exit codes: 0 finished, 130 interrupted, 1 failed, 2 bad input.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or resume a sweep; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from safs_ray.tune import command  # torch and Ray take seconds, in which a signal may come

        return command.main(arguments)
    except KeyboardInterrupt:
        print("interrupted before anything was begun", file=sys.stderr)
        return INTERRUPTED


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
