"""Takes a network away: an equal network with less to store and compute, in one file that other programs run.

``write`` makes the file: ``slim`` folds and cuts what it exactly can, ``formats`` has the kinds of files, and what is
written is run and compared first. ``write_int8`` makes one of 8-bit integers. ``loading`` reads what this package
wrote; ``card`` tells where a network is from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from safs_ray.config import counted, refusal
from safs_ray.data import Examples
from safs_ray.export import formats, int8_file
from safs_ray.export.c import writing
from safs_ray.export.drawing import Predict, drawn_for, original
from safs_ray.export.formats import Files, Runtime
from safs_ray.export.measurement import accuracy
from safs_ray.export.slim import slim
from safs_ray.metrics import Metric
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import generator
from safs_ray.storage import Folder

__all__ = ["Accuracies", "ExportedFile", "Test", "Trial", "write", "write_int8"]

TOLERANCE = 1e-3
"""Difference of logits that rounding may make, as a fraction of the largest logit."""

TURNS = 5
"""Times that an image is run, to tell how long it takes."""


class Test(NamedTuple):
    """Images that accuracies are measured with.

    Attributes:
        noun: what they are.
        metric: of the run.
    """

    noun: str
    images: Examples
    metric: Metric


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        format: name of the file's kind.
        size: of the files, in bytes.
        network: what the file holds.
        notes: what was done to the network, and what could not be, a clause each.
        images: what its logits were compared with the original network's on.
        difference: the largest one between them.
        largest: the original's largest logit on these images.
        trials: of each program that was installed; the first is the one that the file is made for.
        files: the bytes of each.
        accuracies: of 8-bit integers; None where they were not asked for.
    """

    format: str
    size: int
    network: Network
    notes: tuple[str, ...]
    images: str
    difference: float
    largest: float
    trials: tuple[Trial, ...]
    files: Mapping[str, int]
    accuracies: Accuracies | None = None


@dataclass(frozen=True)
class Accuracies:
    """The fractions of images that a network classifies correctly before and after it was quantised.

    Attributes:
        images: what they are, a noun.
        count: how many.
    """

    images: str
    count: int
    before: float
    after: float


@dataclass(frozen=True)
class Trial:
    """What a program made of a file, on this machine.

    Attributes:
        runtime: the program's name.
        load: seconds until it could run.
        image: seconds for one image, a median.
    """

    runtime: str
    load: float
    image: float


def write(network: Network, name: str, folder: Folder, dense_weights: bool = False) -> ExportedFile:
    """Write a network to a file of a folder, for inference: its scales are folded and its dead parts left out.

    Args:
        name: of the format: "safetensors", "onnx", "torch" or "c".
        folder: gets ``network.safetensors``, ``network.onnx``, ``network.pt2``, or ``network.c`` and ``network.h``.
        dense_weights: store zeros, too, in an ONNX file, for programs that read no sparse weights.

    Raises:
        ConfigurationError: there is no such format, a package that it needs is not installed, or it cannot hold
            this network.

    Examples:
        >>> from safs_ray.models import Specification
        >>> network = Network.initial(Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> write(network, "safetensors", Folder.at("deployed")).format
        'safetensors'
        >>> Folder.at("deployed").names()
        ['network.safetensors']
    """
    chosen = formats.find(name, dense_weights)
    smaller, notes = slim(network)
    with formats.refusing(name, network):
        files, note = chosen.write(smaller)
        expected = _Expected(network.specification, original(network))
        compared = [expected.compare(each, files) for each in chosen.runtimes if each.is_installed()]
    for difference, trial in compared:
        _check(name, expected, difference, f" in {trial.runtime}" if len(compared) > 1 else "")
    clauses = tuple(filter(None, (*notes, note)))
    worst, trials = max(difference for difference, _ in compared), tuple(trial for _, trial in compared)
    sizes = _put(files, folder)
    return ExportedFile(
        name, sum(sizes.values()), smaller, clauses, "random images", worst, expected.largest, trials, sizes
    )


def write_int8(network: Network, images: Tensor, folder: Folder, test: Test | None = None) -> ExportedFile:
    """Write a network as C that computes with 8-bit integers, quantised after training.

    Batch normalisation is folded, weights have 8 bits and a scale for each channel, biases and sums 32 bits. The range
    of every value is the one with the least squared error on the images, and each activation with its scales is a
    table of 256 numbers: so every operator is as exact as 8 bits are, and nothing but integers is computed with. The
    logits are integers of 32 bits; ``NETWORK_UNIT`` in the header is what 1 stands for.

    Args:
        images: uint8 (N, C, H, W), such as the network is to classify; those of the validation. 256 of them do.
        folder: gets ``network.c`` and ``network.h``.
        test: images that the accuracies before and after are measured with.

    Raises:
        ConfigurationError: C cannot express this network, there are no such images, or there is no C compiler.

    Examples:
        >>> from safs_ray.models import Specification
        >>> network = Network.initial(Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
        >>> write_int8(network, images, Folder.at("integers")).format
        'int8'
    """
    (runtime,) = formats.find("c").runtimes
    smaller, notes = slim(network)
    with formats.refusing("c", network):
        floats = _Expected(network.specification, original(network))
        _check("c", floats, floats.compare(runtime, writing.write(smaller))[0])
        quantised = int8_file.write(smaller, images)
        difference, trial = _Expected(network.specification, quantised.defined).compare(runtime, quantised.files)
    if difference:
        raise refusal("format", "c", f"computes other logits than 8-bit integers have, by {difference:.2g}")
    before, predict = original(network), runtime.load(quantised.files)
    accuracies = test and _accuracies(test, before, predict)
    logits = before(quantised.images)
    worst, largest = (predict(quantised.images) - logits).abs().max().item(), logits.abs().max().item()
    count = counted(len(quantised.images), "image")
    clauses = *notes, f"quantised weights and activations to 8 bits, by the ranges that occur on {count}"
    sizes, on = _put(quantised.files, folder), f"the {count} that it was quantised by"
    return ExportedFile(
        formats.INT8, sum(sizes.values()), smaller, clauses, on, worst, largest, (trial,), sizes, accuracies
    )


def _check(name: str, expected: _Expected, difference: float, where: str = "") -> None:
    """Refuse a file that computes something else than the network.

    Raises:
        ConfigurationError: it does.
    """
    if not difference <= TOLERANCE * expected.largest:
        reason = f"computes logits that differ by {difference:.2g} from this network's, the largest of which is"
        raise refusal("format", name, f"{reason} {expected.largest:.2g}{where}; nothing was written")


def _accuracies(test: Test, before: Predict, after: Predict) -> Accuracies:
    found = (accuracy(predict, test.images, test.metric) for predict in (before, after))
    return Accuracies(test.noun, len(test.images), *found)


def _put(files: Files, folder: Folder) -> Mapping[str, int]:
    """Write files; gives their sizes."""
    for file, content in files.items():
        folder.write(file, content)
    return {file: len(content) for file, content in files.items()}


class _Expected:
    """The outputs for random inputs of all contrasts.

    Args:
        predict: gives them.

    Attributes:
        largest: of them.
    """

    def __init__(self, specification: Specification, predict: Predict) -> None:
        inputs = drawn_for(predict, specification, 16, generator(0, "export"))
        self._batches = torch.split(inputs, [1, 15])  # any size of batch must do
        self._logits = torch.cat([predict(batch) for batch in self._batches])
        self.largest = self._logits.abs().max().item()

    @torch.inference_mode()
    def compare(self, runtime: Runtime, files: Files) -> tuple[float, Trial]:
        """The largest difference between the files' logits and these, and what the program took for it."""
        start = time.perf_counter()
        predict = runtime.load(files)
        loaded = time.perf_counter() - start
        difference = (torch.cat([predict(batch) for batch in self._batches]) - self._logits).abs().max().item()
        turns = []
        for _ in range(TURNS):
            start = time.perf_counter()
            predict(self._batches[0])
            turns.append(time.perf_counter() - start)
        return difference, Trial(runtime.name, loaded, median(turns))
