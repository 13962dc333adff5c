"""``python -m safs_ray.tune [CONFIG.yaml] [key.path=value …]``, or with ``--resume RUN`` in place of a configuration.

Exit codes: 0 finished, 130 interrupted, 1 failed, 2 bad input.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

FINISHED, BAD_INPUT, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or resume an experiment; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted before anything was begun", file=sys.stderr)
        return INTERRUPTED


def _main(arguments: Sequence[str]) -> int:
    # Neither here nor in what this imports is anything heavy: a mistake and --help cost a fraction of a second.
    from safs_ray.config import ConfigurationError
    from safs_ray.tune.invocation import understood

    try:
        invocation = understood(arguments)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    if invocation is None:
        return FINISHED
    from safs_ray.tune.command import carry_out  # torch and Ray take seconds, in which a signal may come

    return carry_out(invocation)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
