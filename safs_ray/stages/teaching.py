"""What the dense network teaches the sparse ones: its logits on the training images, computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from safs_ray.accuracy import enough_memory, evaluation_batch
from safs_ray.config import refusal
from safs_ray.data import Examples
from safs_ray.log import percent
from safs_ray.metrics import metric_of
from safs_ray.sparse.execution import executable
from safs_ray.stages.result import Result
from safs_ray.training import Context


def teach(teacher: Result, pool: Examples, context: Context) -> Tensor:
    """The logits (N, classes) of a dense network on all images that a sparse network may train on, float32 on the CPU.

    They are of the images as they are: one that is cropped or flipped in training keeps them, as it keeps its label. To
    compute those of every augmented image would take longer than the training of a sparse network does.

    Raises:
        ConfigurationError: the network classifies the validation images no better than a guess: it is no teacher.
    """
    reached = teacher.validation_accuracy
    guessing = metric_of(context.configuration.data).guessing(context.splits.validation.labels)
    if reached <= guessing:
        share = context.configuration.training.distillation.share
        known = f"classifies {percent(reached).strip()} of the validation images, a guess {percent(guessing).strip()}"
        raise refusal("training.distillation.share", share, f"the dense network is no teacher: it {known}")
    return _logits(teacher, pool.inputs, context.device)


@torch.inference_mode()
def _logits(teacher: Result, images: Tensor, device: torch.device) -> Tensor:
    module, size = executable(teacher.network, "dense", device).eval(), evaluation_batch(images)
    with enough_memory(device, f"a batch of {size} images without gradients"):
        parts = [module(part.to(device)).float().cpu() for part in torch.split(images, size)]
    return torch.cat(parts).clone()
