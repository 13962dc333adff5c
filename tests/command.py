"""The command as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from safs_ray.config import Configuration, dump


def start(*arguments: str, directory: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """``python -m safs_ray.tune``, its output to be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-m", "safs_ray.tune", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )


def written(path: Path, configuration: Configuration, name: str, storage: Path) -> Path:
    """A configuration in a file, for runs of this name in this place."""
    run = configuration.run.model_copy(update={"name": name, "storage": str(storage)})
    path.write_text(dump(configuration.model_copy(update={"run": run})))
    return path
