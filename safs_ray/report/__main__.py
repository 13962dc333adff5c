"""``python -m safs_ray.report RUN``: print the table of a run and write its page, report.html.

``python -m safs_ray.report RUN RUN …`` compares runs and writes comparison.html. Exit codes: 0, or 2 for bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from safs_ray.config import PAGE, ConfigurationError
from safs_ray.report import comparison, page, tensorboard
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.groups import grouped
from safs_ray.report.record import Record
from safs_ray.report.table import show, show_groups, show_rows
from safs_ray.sources.images import one_line
from safs_ray.storage import DamagedError, Folder, blaming, shown

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    if str(Path.cwd()) not in sys.path:  # where a user's own networks, operators and data lie
        sys.path.append(str(Path.cwd()))
    console = Console(highlight=False, markup=False)
    try:
        records = [_read(run) for run in parsed.runs]
        if len(records) == 1:
            _report(records[0], parsed.page, parsed.figures, console)
        else:
            _compare(records, parsed.page or comparison.PAGE, parsed.figures, console)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (DamagedError, OSError) as error:  # a file of a run, which most parts of the page read when they need it
        print(f"error: {one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m safs_ray.report",
        description="Print the table of a run, finished or not, and write its page; or compare runs.",
        epilog="example: python -m safs_ray.report runs/quickstart --figures figures",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder or URI of a run; of several, to compare them")
    parser.add_argument(
        "--page", metavar="FILE", help=f"where the page goes (default: RUN/{PAGE}; of several {comparison.PAGE})"
    )
    parser.add_argument("--figures", metavar="FOLDER", help="write every figure there too, as SVG and PNG")
    return parser


def _read(folder: str) -> Record:
    with blaming("run", folder):
        return Record.read(Folder.at(folder))


def _report(record: Record, file: str | None, folder: str | None, console: Console) -> None:
    if record.results:
        show(record.results, console)
    else:
        console.print(f"{record.name} is not finished")
        for part, state in page.status(record):
            console.print(f"  {part}: {state}")
        if record.rows:
            show_rows(record.rows, record.measure, console)
    drawn = page.figures(record)
    if file is None:  # into the run's own folder
        with blaming("run", shown(record.folder)):
            tensorboard.write(record, drawn)
    place = record.folder / PAGE if file is None else _place(file)
    _write(place, page.render(record, drawn, datetime.now()), drawn, folder, console)


def _compare(records: Sequence[Record], file: str, folder: str | None, console: Console) -> None:
    groups = grouped(records)
    show_groups(groups, comparison.row_names(groups), console)
    drawn = comparison.figures(groups)
    _write(_place(file), comparison.render(groups, drawn), drawn, folder, console)


def _place(file: str) -> Folder:
    """Where a page goes that is named by a path or URI."""
    with blaming("--page", file):
        return Folder.at(file)


def _write(
    place: Folder, html: str, drawn: Mapping[str, Figure | Absent], folder: str | None, console: Console
) -> None:
    with blaming("--page", shown(place)):
        place.parent.write(place.name, html.encode())
    console.print(f"\n  page           {shown(place)}", soft_wrap=True)
    if folder:
        with blaming("--figures", folder):
            for figure in drawn.values():
                if isinstance(figure, Figure):
                    figure.save(Folder.at(folder))
        console.print(f"  figures        {folder}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
