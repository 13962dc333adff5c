"""How many of the images a network classifies correctly, a batch without gradients at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from safs_ray.config import RunSection, counted
from safs_ray.data import Examples
from safs_ray.network import Network
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.execution import executable

EVALUATION_BATCH = 1000
"""Images in a batch without gradients, where they are no larger than 3x32x32; fewer of larger ones."""


def accuracy(network: Network, examples: Examples, device: torch.device, run: RunSection) -> float:
    """Fraction of the examples that the network classifies correctly, executed as the run says."""
    with enough_memory(device, "the network with all images"):
        module, examples = executable(network, run.execution, device, run.known_costs), examples.to(device)
    return accuracies(module.cohort, examples)[0]


@torch.inference_mode()
def accuracies(cohort: Cohort, examples: Examples) -> list[float]:
    """Of each network of a cohort, as :func:`accuracy` has it of one."""
    cohort.eval()
    size = evaluation_batch(examples.inputs)
    with enough_memory(examples.inputs.device, f"a batch of {counted(size, 'image')} without gradients"):
        return _shares_correct(cohort, examples, size)


def _shares_correct(cohort: Cohort, examples: Examples, size: int) -> list[float]:
    counts = []
    for images, labels in zip(torch.split(examples.inputs, size), torch.split(examples.labels, size), strict=True):
        logits = cohort(images)
        # The argmax of NaN is a class like any other: a broken network must not score by chance.
        counts.append(((logits.argmax(2) == labels) & logits.isfinite().all(2)).sum(1))
    correct: list[int] = torch.stack(counts).sum(0).tolist()
    return [count / len(examples) for count in correct]


def evaluation_batch(images: Tensor) -> int:
    """How many of such images (N, C, H, W) a batch without gradients takes."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * 3 * 32 * 32 // math.prod(images.shape[1:])))


@contextmanager
def enough_memory(device: torch.device, doing: str) -> Iterator[None]:
    """Say in one line what takes more memory than the device has, and the way out.

    Raises:
        MemoryError: it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{doing} takes more memory than the {device.type} device has left; take a smaller batch_size, or give a "
            "trial more of it (tune.resources.gpu)"
        ) from error
