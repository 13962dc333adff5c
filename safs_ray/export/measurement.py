"""What each exported form of a network costs on this machine: time, memory, bytes, and how accurate it is."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from safs_ray.config import ConfigurationError, refusal
from safs_ray.data import Examples, Splits
from safs_ray.export import formats, int8_file
from safs_ray.export.drawing import Predict, drawn_for, original
from safs_ray.export.formats import FORMATS, INT8, Files, Runtime
from safs_ray.export.slim import slim
from safs_ray.metrics import Metric
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.storage import Folder

BATCHES = (1, 8, 64)
"""Images in a call."""

SECONDS, FEWEST = 2.0, 20
"""For how long a batch is repeated, and how often at least."""

PIECE = 64
"""Images of a call where the accuracy is measured."""

FORMS = (*FORMATS, INT8)
"""What is measured."""

IMAGE = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
"""What a small network classifies before anything is measured."""

FILE = "measurement.json"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call: the median, and what 99 of 100 calls take at most."""

    median: float
    most: float


@dataclass(frozen=True)
class Measurement:
    """One form, run by one program, on one thread.

    Attributes:
        bytes: of its files.
        load: seconds until it could run.
        loading: bytes by which the process has grown at its largest, until it had classified two images one by one.
        memory: the same while it classifies the second one, when what only loading took is given back.
        latency: by the images in a call.
        accuracy: on the test images; None where these could not be read.
    """

    format: str
    runtime: str
    bytes: int
    load: float
    loading: int
    memory: int
    latency: Mapping[int, Latency]
    accuracy: float | None


def measure(network: Network, splits: Splits | None, metric: Metric) -> Iterator[Measurement | str]:
    """Each form by each program that is installed, in a process of its own; or why there is none, a sentence.

    Args:
        splits: the images that 8-bit integers are quantised by, and those that accuracies are measured with.
    """
    draws = torch.Generator().manual_seed(0)
    images = drawn_for(original(network), network.specification, max(BATCHES), draws)
    ranges, test = (splits.validation.inputs, splits.test) if splits else (None, None)
    smaller, other = slim(network)[0], _other()
    for name in FORMS:
        try:
            files = _files(name, smaller, ranges)
            before = _files(name, other, IMAGE)
        except ConfigurationError as error:
            yield str(error)
            continue
        for number, runtime in enumerate(_runtimes(name)):
            if runtime.is_installed():
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    yield process.submit(_measured, name, number, files, before, images, test, metric).result()


def _files(name: str, network: Network, ranges: Tensor | None) -> Files:
    """A network in a form.

    Raises:
        ConfigurationError: it cannot be in this one.
    """
    with formats.refusing(name, network):
        if name != INT8:
            return formats.find(name).write(network)[0]
        formats.find("c")  # which is a compiler's
        if ranges is None:
            raise refusal("format", name, "is quantised by validation images, which cannot be read")
        return int8_file.write(network, ranges).files


def _runtimes(name: str) -> tuple[Runtime, ...]:
    return FORMATS["c" if name == INT8 else name].runtimes


def write(measurements: Sequence[Measurement], folder: Folder) -> None:
    """Write what was measured as JSON."""
    folder.write_json(FILE, [asdict(each) for each in measurements])


def _other() -> Network:
    """A small network that makes a program load what any network needs."""
    return Network.initial(Specification("lenet5", tuple(IMAGE.shape[1:]), 2, (0.5,), (0.5,)), seed=0)


def _measured(
    name: str, number: int, files: Files, other: Files, images: Tensor, test: Examples | None, metric: Metric
) -> Measurement:
    """All measurements of a form in this process."""
    torch.set_num_threads(1)
    runtime = _runtimes(name)[number]
    runtime.load(other)(IMAGE)
    with torch.inference_mode():
        before = _forget_largest()
        start = time.perf_counter()
        predict = runtime.load(files)
        load = time.perf_counter() - start
        predict(images[:1])
        loaded = _largest() - before
        _forget_largest()
        predict(images[:1])
        memory = _largest() - before
        latency = {batch: _latency(predict, images[:batch]) for batch in BATCHES}
        correct = None if test is None else accuracy(predict, test, metric)
    size = sum(map(len, files.values()))
    return Measurement(name, runtime.name, size, load, max(loaded, memory), memory, latency, correct)


def _latency(predict: Predict, images: Tensor) -> Latency:
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    predict(images)
    while len(times) < FEWEST or time.perf_counter() < end:
        start = time.perf_counter()
        predict(images)
        times.append(1000 * (time.perf_counter() - start))
    return Latency(float(np.median(times)), float(np.quantile(times, 0.99)))


def accuracy(predict: Predict, test: Examples, metric: Metric) -> float:
    """What the metric is of what a form computes, from 0 to 1."""
    pairs = zip(test.inputs.split(PIECE), test.labels.split(PIECE), strict=True)  # type: ignore[no-untyped-call]
    seen = [metric.seen(predict(inputs)[None], labels)[0] for inputs, labels in pairs]
    return metric.of(torch.cat(seen), test.labels)


def _forget_largest() -> int:
    """The bytes that this process takes, from which on the largest is counted."""
    gc.collect()
    if sys.platform == "linux":
        if hasattr(ctypes.CDLL(None), "malloc_trim"):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def _largest() -> int:
    """The most bytes that this process has taken; where the system does not say so, those that it takes."""
    if sys.platform != "linux":
        return int(psutil.Process().memory_info().rss)
    status: dict[str, Any] = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])
