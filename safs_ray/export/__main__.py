"""``python -m safs_ray.export RUN [--format FORMAT] [--output FOLDER]``: a run's best network in one file.

With ``--format c --int8`` it computes with 8-bit integers, quantised by the run's validation images. With ``--measure``
nothing is exported: what each form costs on this machine is printed, and written as JSON.

Exit codes: 0 written, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from safs_ray import export
from safs_ray.config import ConfigurationError, refusal
from safs_ray.export import formats, measurement
from safs_ray.export.card import CARD, card, in_integers
from safs_ray.export.finished import FinishedRun
from safs_ray.export.measurement import Measurement
from safs_ray.metrics import metric_of
from safs_ray.report.table import STYLE
from safs_ray.sources.images import one_line
from safs_ray.storage import Folder

WRITTEN, BAD_INPUT = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a run's best network; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    if str(Path.cwd()) not in sys.path:  # where a user's own modules lie
        sys.path.append(str(Path.cwd()))
    try:
        formats.find(parsed.format, parsed.dense_weights)
        if parsed.int8 and parsed.format != "c":
            raise refusal("format", parsed.format, "has no 8-bit integers; allowed with --int8: c")
        run = FinishedRun.read(parsed.run)
        if parsed.measure:
            folder = Folder.at(parsed.output) if parsed.output else run.folder / "export"
            _measure(run, folder, _console())
            return WRITTEN
        name = formats.INT8 if parsed.int8 else parsed.format
        folder = Folder.at(parsed.output) if parsed.output else run.folder / "export" / name
        if parsed.int8:
            exported = _in_integers(run, folder)
        else:
            exported = export.write(run.best.network, name, folder, parsed.dense_weights)
        text = card(run, exported).encode()
        folder.write(CARD, text)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except (OSError, ValueError) as error:  # Arrow's are among them
        print(f"error: output={parsed.output}: cannot be written ({one_line(error)})", file=sys.stderr)
        return BAD_INPUT
    _show(_console(), run, exported, folder, len(text))
    return WRITTEN


def _in_integers(run: FinishedRun, folder: Folder) -> export.ExportedFile:
    """Quantise by the validation images, and measure with the test images, or those where there are none."""
    splits = run.splits()
    noun, images = ("test image", splits.test) if len(splits.test) else ("validation image", splits.validation)
    test = export.Test(noun, images, metric_of(run.configuration.data))
    return export.write_int8(run.best.network, splits.validation.inputs, folder, test)


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _measure(run: FinishedRun, folder: Folder, console: Console) -> None:
    """Measure all forms, and print and write what was found."""
    try:
        splits = run.splits()
    except ConfigurationError as error:
        console.print(f"the images cannot be read, so no accuracy is measured: {error}", soft_wrap=True)
        splits = None
    found: list[Measurement] = []
    for each in measurement.measure(run.best.network, splits, metric_of(run.configuration.data)):
        if isinstance(each, str):
            console.print(each, soft_wrap=True)
        else:
            found.append(each)
    measurement.write(found, folder)
    console.print(_table(found, run.configuration.measure))
    counts = ", ".join(map(str, measurement.BATCHES))
    times = f"ms: the median above the 99th percentile of calls with {counts} inputs, on one thread"
    console.print(
        f"{times}; MB: how much the process grew until its first output, and in the next call", soft_wrap=True
    )
    console.print(f"as JSON in {folder}/{measurement.FILE}", soft_wrap=True)


def _table(found: Sequence[Measurement], measure: str) -> Table:
    table = Table(**STYLE)
    table.add_column("format", min_width=max(map(len, formats.FORMATS)))
    table.add_column("run by", min_width=max(len("safs_ray"), len("OpenVINO")))
    latencies = [f"ms, {batch}" for batch in measurement.BATCHES]
    for heading in ("bytes", "load s, MB", "run MB", *latencies, f"{measure} %"):
        table.add_column(heading, justify="right", min_width=6)
    for each in found:
        times = [f"{own.median:.2g}\n{own.most:.2g}" for own in each.latency.values()]
        accuracy = "" if each.accuracy is None else f"{100 * each.accuracy:.2f}"
        load = f"{each.load:.2f}\n{each.loading / 1e6:.1f}"
        memory = f"{each.memory / 1e6:.1f}"
        table.add_row(each.format, each.runtime, f"{each.bytes:,}", load, memory, *times, accuracy)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m safs_ray.export", description="Write the best network of a finished run to one file."
    )
    parser.add_argument("run", metavar="RUN", help="folder or URI of the run")
    parser.add_argument(
        "--format",
        default="safetensors",
        help=f"{', '.join(formats.FORMATS)} (default: %(default)s, which safs_ray.load executes sparsely)",
    )
    parser.add_argument(
        "--dense-weights",
        action="store_true",
        help="store every zero in an ONNX file, for tools that read no sparse weights",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with --format c: compute with 8-bit integers, quantised by the run's validation images",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="export nothing; tell what each form takes on this machine: time, memory, bytes, and its accuracy",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="folder or URI to write to (default: RUN/export/FORMAT, or RUN/export/int8)"
    )
    return parser


def _show(console: Console, run: FinishedRun, exported: export.ExportedFile, folder: Folder, card_size: int) -> None:
    table = Table(**STYLE)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    for file, size in exported.files.items():
        table.add_row(file, f"{size:,}")
    table.add_row(CARD, f"{card_size:,}")
    console.print(f"{run.folder}/networks/best, written to {folder}", soft_wrap=True)
    console.print(table)
    for note in exported.notes:
        console.print(note, soft_wrap=True)
    if exported.accuracies:
        console.print(in_integers(exported.accuracies), soft_wrap=True)
    console.print(
        f"on {exported.images} the logits differ by at most {exported.difference:.1e} from those of the original "
        f"network, the largest of which is {exported.largest:.2g}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
