"""Takes a network away: an equal network with less to store and compute, in one file that other programs run.

``write`` makes the file: ``slim`` folds and cuts what it exactly can, ``formats`` has the kinds of files, and what is
written is run and compared first. ``loading`` reads what this package wrote; ``card`` tells where a network is from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import torch

from safs_ray.config import ConfigurationError, refusal
from safs_ray.export import formats
from safs_ray.export.formats import Files, Runtime
from safs_ray.export.slim import slim
from safs_ray.network import Network
from safs_ray.randomness import generator
from safs_ray.sources.images import one_line
from safs_ray.sparse.execution import executable
from safs_ray.storage import Folder

__all__ = ["ExportedFile", "Trial", "write"]

TOLERANCE = 1e-3
"""Difference of logits that rounding may make, as a fraction of the largest logit."""

TURNS = 5
"""Times that an image is run, to tell how long it takes."""


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        format: name of the file's kind.
        size: of the files, in bytes.
        network: what the file holds.
        notes: what was done to the network, and what could not be, a clause each.
        difference: the largest one between its logits and the original network's, on random images.
        largest: the original's largest logit on them.
        trials: of each program that was installed; the first is the one that the file is made for.
        files: the bytes of each.
    """

    format: str
    size: int
    network: Network
    notes: tuple[str, ...]
    difference: float
    largest: float
    trials: tuple[Trial, ...]
    files: Mapping[str, int]


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
    try:
        files, note = chosen.write(smaller)
        expected = _Expected(network)
        compared = [expected.compare(each, files) for each in chosen.runtimes if each.is_installed()]
    except ConfigurationError:
        raise
    except Exception as error:  # exporters raise anything at code that they do not know, a user's above all
        reason = f"cannot hold this {network.specification.model} ({type(error).__name__}: {one_line(error)})"
        raise refusal("format", name, reason) from None
    for difference, trial in compared:
        if not difference <= TOLERANCE * expected.largest:
            reason = f"computes logits that differ by {difference:.2g} from this network's, the largest of which is"
            where = f" in {trial.runtime}" if len(compared) > 1 else ""
            raise refusal("format", name, f"{reason} {expected.largest:.2g}{where}; nothing was written")
    for file, content in files.items():
        folder.write(file, content)
    sizes = {file: len(content) for file, content in files.items()}
    clauses = tuple(filter(None, (*notes, note)))
    worst, trials = max(difference for difference, _ in compared), tuple(trial for _, trial in compared)
    return ExportedFile(name, sum(sizes.values()), smaller, clauses, worst, expected.largest, trials, sizes)


class _Expected:
    """The outputs of a network for random inputs of all contrasts.

    Attributes:
        largest: of them.
    """

    @torch.inference_mode()
    def __init__(self, network: Network) -> None:
        original = executable(network, "dense", torch.device("cpu")).eval()
        draws = generator(0, "export")
        inputs = network.specification.drawn(16, draws)
        self._batches = torch.split(inputs, [1, 15])  # any size of batch must do
        self._logits = torch.cat([network.specification.restored(original(batch)) for batch in self._batches])
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
