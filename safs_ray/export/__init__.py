"""Takes a network away: an equal network with less to store and compute, in one file that other programs run.

``write`` makes the file: ``slim`` folds and cuts what it exactly can, ``formats`` has the kinds of files, and what is
written is run and compared first. ``loading`` reads what this package wrote; ``card`` tells where a network is from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from safs_ray.config import ConfigurationError, refusal
from safs_ray.export import formats
from safs_ray.export.formats import Predict
from safs_ray.export.slim import slim
from safs_ray.network import Network
from safs_ray.randomness import generator
from safs_ray.sources.images import one_line
from safs_ray.sparse.execution import executable
from safs_ray.storage import Folder

__all__ = ["ExportedFile", "write"]

TOLERANCE = 1e-3
"""Difference of logits that rounding may make, as a fraction of the largest logit."""


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        format: name of the file's kind.
        size: of the file, in bytes.
        network: what the file holds.
        notes: what was done to the network, and what could not be, a clause each.
        difference: the largest one between its logits and the original network's, on random images.
        largest: the original's largest logit on them.
    """

    format: str
    size: int
    network: Network
    notes: tuple[str, ...]
    difference: float
    largest: float


def write(network: Network, name: str, folder: Folder) -> ExportedFile:
    """Write a network to a file of a folder, for inference: its scales are folded and its dead parts left out.

    Args:
        name: of the format: "safetensors", "onnx" or "torch".
        folder: gets ``network.safetensors``, ``network.onnx`` or ``network.pt2``.

    Raises:
        ConfigurationError: there is no such format, a package that it needs is not installed, or it cannot hold
            this network.

    Examples:
        >>> from safs_ray.models import Specification
        >>> network = Network.initial(Specification("mlp", 1, 8, 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> write(network, "safetensors", Folder.at("deployed")).format
        'safetensors'
        >>> Folder.at("deployed").names()
        ['network.safetensors']
    """
    chosen = formats.find(name)
    smaller, notes = slim(network)
    try:
        content, note = chosen.write(smaller)
        difference, largest = _compared(network, chosen.load(content))
    except ConfigurationError:
        raise
    except Exception as error:  # exporters raise anything at code that they do not know, a user's above all
        reason = f"cannot hold this {network.specification.model} ({type(error).__name__}: {one_line(error)})"
        raise refusal("format", name, reason) from None
    if not difference <= TOLERANCE * largest:
        reason = f"computes logits that differ by {difference:.2g} from this network's, the largest of which is"
        raise refusal("format", name, f"{reason} {largest:.2g}; nothing was written")
    folder.write(chosen.file, content)
    return ExportedFile(name, len(content), smaller, tuple(filter(None, (*notes, note))), difference, largest)


@torch.inference_mode()
def _compared(network: Network, predict: Predict) -> tuple[float, float]:
    """The largest difference, and the network's largest logit, on random images of all contrasts."""
    original = executable(network, "dense", torch.device("cpu")).eval()
    draws = generator(0, "export")
    shape = network.specification.example(16).shape
    images = torch.rand(shape, generator=draws) * 256 * torch.rand(16, 1, 1, 1, generator=draws)
    batches = torch.split(images.to(torch.uint8), [1, 15])  # any size of batch must do
    expected = torch.cat([original(batch) for batch in batches])
    outputs = torch.cat([predict(batch) for batch in batches])
    return (outputs - expected).abs().max().item(), expected.abs().max().item()
