"""How good the outputs of networks are by a metric, a batch without gradients at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from safs_ray.config import Configuration, counted
from safs_ray.data import Examples
from safs_ray.metrics import Metric, metric_of
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.execution import executable

EVALUATION_BATCH = 1000
"""Inputs in a batch without gradients, where they are no larger than 3x32x32; fewer of larger ones."""


def accuracy(network: Network, examples: Examples, device: torch.device, configuration: Configuration) -> float:
    """How good a network is by the run's metric, executed as the run says."""
    run = configuration.run
    with enough_memory(device, "the network with all inputs"):
        module, examples = executable(network, run.execution, device, run.known_costs), examples.to(device)
    return accuracies(module.cohort, examples, metric_of(configuration.data), network.specification)[0]


@torch.inference_mode()
def accuracies(cohort: Cohort, examples: Examples, metric: Metric, specification: Specification) -> list[float]:
    """Of each network of a cohort, as :func:`accuracy` has it of one.

    Args:
        specification: of all of them, which says the units of what they predict.
    """
    cohort.eval()
    size = evaluation_batch(examples.inputs)
    with enough_memory(examples.inputs.device, f"a batch of {counted(size, specification.noun)} without gradients"):
        pairs = zip(torch.split(examples.inputs, size), torch.split(examples.labels, size), strict=True)
        seen = [metric.seen(specification.restored(cohort(inputs)), labels) for inputs, labels in pairs]
    return [metric.of(each, examples.labels) for each in torch.cat(seen, 1)]


def evaluation_batch(inputs: Tensor) -> int:
    """How many of such inputs (N, …) a batch without gradients takes."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * 3 * 32 * 32 // math.prod(inputs.shape[1:])))


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
