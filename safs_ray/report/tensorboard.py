"""The figures of a run, and what its sites take and give, as events that TensorBoard shows beside Ray Tune's curves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from safs_ray.config import ConfigurationError
from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures.functions import learned
from safs_ray.report.measurement import site_inputs
from safs_ray.report.record import Record

FOLDER = "tensorboard"
"""Of a run: the events that this module writes, anew each time."""


def write(record: Record, drawn: Mapping[str, Figure | Absent]) -> None:
    """Write the figures of a run as images, and the inputs and outputs of every site as histograms.

    Their step is the number of evaluations that are made.

    Args:
        drawn: what :func:`page.figures` gives.
    """
    step = len(record.evaluations)
    with TemporaryDirectory() as place:
        with SummaryWriter(place) as writer:
            for name, figure in drawn.items():
                if isinstance(figure, Figure):
                    pixels = np.asarray(Image.open(io.BytesIO(figure.png(dpi=144))).convert("RGB"))
                    writer.add_image(name, pixels, step, dataformats="HWC")
            _write_sites(record, writer, step)
        folder = record.folder / FOLDER
        folder.delete()
        for file in Path(place).iterdir():
            folder.write(file.name, file.read_bytes())


def _write_sites(record: Record, writer: SummaryWriter, step: int) -> None:
    """Histograms of the best network's sites; none where its images or operators are not here."""
    if record.best_network is None or record.images is None:
        return
    try:
        functions = learned(record)
        inputs = site_inputs(record.best_network, record.images.inputs)
    except ConfigurationError:
        return
    for site, values in inputs.items():
        if len(values):
            outputs = functions[site](values.astype(np.float64))
            writer.add_histogram(f"inputs/{site}", values, step)
            writer.add_histogram(f"outputs/{site}", outputs[np.isfinite(outputs)], step)
