"""The connection to Ray: one for this run alone, or a cluster that is there."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from safs_ray import machine
from safs_ray.config import Configuration
from safs_ray.sources.images import one_line
from safs_ray.storage import blaming
from safs_ray.tune.board import NAMESPACE
from safs_ray.tune.modules import modules

TOKEN = Path("~/.ray/auth_token")
"""What lets a process into a Ray cluster; Ray writes it for all to read."""


LEVELS = {"ray.tune": logging.ERROR, "ray.train": logging.ERROR, "ray.tune.tune": logging.CRITICAL}
"""What Ray's own loggers say: of its last one only that trials failed, which we say, and how its snapshots went, which
we do not use."""


def connect(configuration: Configuration) -> None:
    """Connect to Ray, starting it for this run alone unless the configuration names a cluster."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # it would outlast the sweep, and swallow a later Ctrl-C
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": NAMESPACE}
    try:
        if configuration.run.address == "local":
            _start(quiet)
        else:
            # A submitted job has a runtime environment of its own: only the modules are taken from this one.
            os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
            with blaming("run.address", configuration.run.address):
                ray.init(address=configuration.run.address, runtime_env={"py_modules": modules()}, **quiet)
    except SystemExit:  # what Ray's own handler of SIGTERM, which it sets on the way, makes of it
        raise KeyboardInterrupt from None
    signal.signal(signal.SIGTERM, interrupt)
    with suppress(FileNotFoundError):
        TOKEN.expanduser().chmod(0o600)
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


def _start(quiet: dict[str, Any]) -> None:
    """Start Ray for this run alone.

    Raises:
        ConnectionError: it does not start, as on a machine that has too much to do; Ray raises a bare Exception then.
    """
    try:
        ray.init(address="local", num_cpus=machine.cores(), include_dashboard=False, **quiet)
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError(f"Ray did not start ({one_line(error)})") from error


def interrupt(*_: Any) -> None:
    """On SIGTERM do what Ctrl-C does."""
    raise KeyboardInterrupt
