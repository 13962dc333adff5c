"""``python -m safs_ray.report RUN``: print the table of a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from safs_ray.report.results import RESULTS
from safs_ray.report.table import show
from safs_ray.storage import Folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 when the folder holds no results."""
    parser = argparse.ArgumentParser(prog="python -m safs_ray.report", description="Print a run's table.")
    parser.add_argument("run", help="folder or URI of the run")
    folder = Folder.at(parser.parse_args(arguments).run)
    if not folder.exists(RESULTS):
        print(f"error: run={folder}: holds no {RESULTS}; is it finished?", file=sys.stderr)
        return 2
    show(folder.read_json(RESULTS), Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
